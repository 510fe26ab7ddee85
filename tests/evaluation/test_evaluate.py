"""Evaluating writes figures that the report reads, whether or not there are prompts to judge."""

import json
import math
import shutil

import pytest

from videodit import cli
from videodit.core.config import write_config
from videodit.data import media
from videodit.evaluation.evaluate import evaluate
from videodit.evaluation.judge import fooling


def finite(value):
    if isinstance(value, (dict, list)):
        return all(finite(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.fixture(scope="module")
def workdir(tiny_job, tmp_path_factory):
    # The job is shared: tests of tasks may have written their evaluation into it.
    return shutil.copytree(tiny_job, tmp_path_factory.mktemp("evaluated") / "job", ignore=shutil.ignore_patterns("evaluation"))


@pytest.fixture(scope="module")
def found(tiny, workdir):
    return evaluate(tiny(), workdir)


def test_the_vae_is_measured_on_held_out_clips(found):
    vae = found["vae"]
    assert vae["clips"] == 4 and 5 < vae["psnr_db"] < 60 and finite(vae)
    # 9 frames become 3 latents of 6 channels at 8x8 pixels; stills compress less.
    assert 64 * 3 / 6 <= vae["compression"] <= 64 * 3 * 9 / 3 / 6 and vae["stride"] == [4, 8, 8]


def test_a_vae_alone_is_measured_in_its_own_workdir(tiny_latents, tmp_path, capsys):
    workdir = shutil.copytree(tiny_latents / "vae", tmp_path / "vae")
    assert cli.main(["evaluate", f"--workdir={workdir}", "--config.evaluate.reconstructions=3", "--json"]) == 0
    out = capsys.readouterr().out
    assert "VAE: " in out and "\nvideos " in out and "KL, nats" in out and "judged" not in out
    found = json.loads(out.splitlines()[-1])
    assert found.keys() == {"vae"} and found["vae"]["windows"] == 3
    assert json.loads((workdir / "evaluation.json").read_text()) == found
    assert media.probe(workdir / "evaluation" / "reconstruction.png").kind == "image"
    assert json.loads((workdir / "report.json").read_text())["vae"]["psnr_db"] == pytest.approx(found["vae"]["psnr_db"])


def test_a_workdir_with_no_vae_is_a_mistake_in_one_line(tiny, tiny_latents, tmp_path, capsys):
    write_config(tmp_path, tiny("vae", data={"path": str(tiny_latents / "dataset")}))
    assert cli.main(["evaluate", f"--workdir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "checkpoint" in error and str(tmp_path) in error


def test_samples_are_judged_beside_what_their_score_means(found):
    assert {"trained", "truth", "truth through the VAE", "shuffled prompts", "frozen first frame", "untrained"} <= found["judge"].keys()
    assert {subject for subject in found["judge"] if subject.startswith("fool: ")} == {f"fool: {name}" for name in fooling.FOOLS}
    for shares in found["judge"].values():
        assert shares.keys() >= {"whole", "colour", "shape", "alone"}
        assert all(0 <= each["low"] <= each["share"] <= each["high"] <= 1 and each["n"] >= 1 for each in shares.values())
    assert found["picture"]["figures"]["seams.space"].keys() == {"samples", "vae", "true", "over_true"} and found["picture"]["fvd"] is None
    assert found["judged"] == {"clips": 4, "prompts": 4} and found["judge"]["trained"]["whole"]["n"] == 4
    assert found["judge"]["shuffled prompts"]["whole"]["n"] == 4


def test_figures_and_pictures_are_written(found, workdir):
    assert json.loads((workdir / "evaluation.json").read_text()) == found
    pictures = {"reconstruction.png", "samples.png", "best_middle_worst.png", "shown", "shown.json"}
    assert {path.name for path in (workdir / "evaluation").iterdir()} == pictures
    report = json.loads((workdir / "report.json").read_text())
    assert report["vae"]["psnr_db"] == pytest.approx(found["vae"]["psnr_db"])
    for score in ("colour", "shape", "motion"):
        assert report["judge"]["truth"][score] == pytest.approx(found["judge"]["truth"][score]["share"])
    assert (workdir / "report.html").exists()


def test_the_verb_prints_its_figures_as_json_last(workdir, capsys):
    assert cli.main(["evaluate", f"--workdir={workdir}", "--config.evaluate.prompts=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() >= {"vae", "judge"}

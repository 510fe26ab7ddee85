"""Evaluating writes figures that the report reads, whether or not there are prompts to judge."""

import json
import math
import shutil

import numpy as np
import pytest

from videodit import cli
from videodit.core.config import write_config
from videodit.data import media
from videodit.evaluation.evaluate import evaluate, true_clips


def finite(value):
    if isinstance(value, (dict, list)):
        return all(finite(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


@pytest.fixture(scope="module")
def workdir(tiny_job, tmp_path_factory):
    return shutil.copytree(tiny_job, tmp_path_factory.mktemp("evaluated") / "job")


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


def test_trained_untrained_and_true_clips_are_judged(found):
    assert found["judge"].keys() == {"trained", "untrained", "truth"}
    for subject, shares in found["judge"].items():  # of the few untrained samples, none here is a video
        assert shares.keys() >= ({"colour", "shape"} if subject == "untrained" else {"colour", "shape", "motion"})
        assert all(0 <= share <= 1 for share in shares.values())


def test_figures_and_pictures_are_written(found, workdir):
    assert json.loads((workdir / "evaluation.json").read_text()) == found
    assert {path.name for path in (workdir / "evaluation").iterdir()} == {"reconstruction.png", "samples.png"}
    report = json.loads((workdir / "report.json").read_text())
    assert report["vae"]["psnr_db"] == pytest.approx(found["vae"]["psnr_db"])
    for score in ("colour", "shape", "motion"):
        assert report["judge"]["truth"][score] == pytest.approx(found["judge"]["truth"][score])
    assert (workdir / "report.html").exists()


def test_true_clips_are_held_out_videos_with_their_state(tiny, workdir):
    clips = true_clips(tiny(), workdir, 3)
    assert 1 <= len(clips) <= 3
    for frames, fps, state in clips:
        assert frames.dtype == np.uint8 and len(frames) > 1 and fps == 8.0 and state["solids"]


def test_the_verb_prints_its_figures_as_json_last(workdir, capsys):
    assert cli.main(["evaluate", f"--workdir={workdir}", "--config.evaluate.prompts=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() >= {"vae", "judge"}

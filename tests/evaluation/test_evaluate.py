"""Evaluating writes figures that the report reads, whether or not there are prompts to judge."""

import json
import math
import shutil

import numpy as np
import pytest

from videodit import cli
from videodit.evaluation.evaluate import evaluate, true_clips


def finite(value):
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
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

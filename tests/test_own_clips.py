"""The whole job on somebody's own few clips: of any size, one of them a still, too few for any to be held out."""

import json

import numpy as np
import pytest

from videodit.data import media
from videodit.data.prepare import prepare
from videodit.evaluation.evaluate import evaluate
from videodit.generation.sample import sample_command
from videodit.generation.tasks import Task
from videodit.training.encode import encode
from videodit.training.loop import train

CLIPS = {"wide": (9, 16, 40), "tall": (12, 40, 17), "still": (1, 24, 24)}  # frames, height, width


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Returns (config, workdir) of the job run to its end, but for `evaluate`."""
    folder, workdir = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    for name, (frames, height, width) in CLIPS.items():
        media.write(folder / name, np.repeat(random.integers(0, 256, (frames, height, width, 1), np.uint8), 3, axis=-1), 8.0)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "captions.jsonl").write_text(json.dumps({"file": "wide.mp4", "caption": "noise that is wide"}) + "\n")
    data = {"source": "files", "inputs": str(folder), "path": str(workdir / "dataset"), "workers": 1}
    short = {"steps": 2, "log_every": 1, "save_every": 2, "sample_every": 2}
    vae, dit = tiny("vae", data=data, train=short), tiny("dit", data=data, train=short)
    summary = prepare(vae.data, workdir / "dataset")
    assert summary.kept == {"train": 3, "held_out": 0} and sum(summary.rejected.values()) == 1
    train(vae, workdir / "vae")
    encode(dit, workdir)
    train(dit, workdir)
    return dit, workdir


def test_it_trains_with_pictures_of_what_there_is(trained):
    _, workdir = trained
    assert (workdir / "vae" / "samples" / "2" / "reconstruction.png").exists()
    assert len(json.loads((workdir / "samples" / "2" / "samples.json").read_text())) == 3


def test_it_samples(trained, tmp_path):
    _, workdir = trained
    (path,) = sample_command(workdir=str(workdir), task=Task(prompt="noise", size=(16, 32), seconds=1.0), output=str(tmp_path))
    assert media.check(path).frames == 8


def test_what_is_measured_without_held_out_clips_says_so(trained, capsys):
    config, workdir = trained
    found = evaluate(config, workdir)
    assert "judge" not in found and found["vae"]["split"] == "train"
    assert found["vae"]["clips"] == 3 and found["vae"]["windows"] == 4  # 8 frames have room for 5, and for 5 that end with them
    assert np.isfinite(found["vae"]["psnr_db"]) and "3 training clips" in capsys.readouterr().out
    assert json.loads((workdir / "report.json").read_text())["vae"]["psnr_db"] == pytest.approx(found["vae"]["psnr_db"])

"""The codecs that a VAE has to beat are measured on stills and videos at each compression."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from videodit.data import media

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_best_split_is_the_best_and_a_scene_that_only_fades_wants_time_given_up(tmp_path):
    clips, draw = tmp_path / "clips", np.random.default_rng(0)
    clips.mkdir()
    coarse = draw.integers(0, 256, (3, 16, 24, 3), np.uint8).repeat(5, axis=1).repeat(5, axis=2)
    fading = (coarse[0] * np.linspace(1, 0.5, 17)[:, None, None, None]).astype(np.uint8)
    (clips / "fading.mp4").write_bytes(media.encode_video(fading, 8.0))
    (clips / "picture.png").write_bytes(media.encode_image(coarse[1]))
    (clips / "awkward").mkdir()
    (clips / "awkward" / "other.png").write_bytes(media.encode_image(coarse[2]))
    command = [sys.executable, str(ROOT / "experiments/benchmarks/bicubic.py"), "--clips", str(clips), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["videos"]["clips"] == found["stills"]["clips"] == 1
    for point, row in found["videos"]["psnr_db"].items():
        splits = [row[f"time by {factor}"] for factor in (1, 2, 4, 8)]
        assert row["a"] == max(splits) == splits[-1] > splits[0] + 1, point
        assert 5 < row["b"] < row["a"] and 5 < row["3D-DCT"] < 100
    for row in found["stills"]["psnr_db"].values():
        assert row["a"] == row["time by 1"] == row["time by 8"]

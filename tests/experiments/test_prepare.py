"""A dataset whose preparation was killed at random moments is the one that was left alone, byte for byte."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_killed_at_random_moments_it_makes_the_same_dataset(tmp_path):
    command = [sys.executable, str(ROOT / "experiments/benchmarks/prepare.py"), "--workdir", str(tmp_path / "runs"), "--clips", "150",
               "--distinct", "50", "--kills", "3", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["identical"] and sum(len(run["kills"]) for run in found["runs"]) == 3
    assert sum(found["kept"].values()) == 147 and sum(found["rejected"].values()) == 3 and found["files_compared"] >= 9

"""A job that is killed at random moments and run again ends with the weights of one that was left alone, bit for bit."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")]


@pytest.fixture
def launcher(tmp_path):
    """A copy of the scripts whose environment is this one, already made."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "launch", clone / "launch")
    shutil.copy(ROOT / "setup.py", clone)
    binaries = clone / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, module in (("videodit", "-m videodit.cli"), ("python", "")):
        (binaries / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (binaries / name).chmod(0o755)
    command = 'source "$1/launch/environment.sh"; environment_stamp "$0" . "$1"'
    stamp = subprocess.run(["bash", "-c", command, sys.executable, str(clone)], capture_output=True, text=True, check=True).stdout
    (clone / ".venv" / ".stamp").write_text(stamp)
    return clone / "launch" / "local.sh"


def test_killed_at_random_moments_the_whole_job_ends_as_one_left_alone(launcher, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "experiments/benchmarks/kills.py"),
        "--workdir",
        str(tmp_path / "runs"),
        "--launcher",
        str(launcher),
        "--config",
        str(ROOT / "tests/tiny.py"),
        "--kills",
        "3",
        "--json",
    ]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["identical"] and found["whole"]["step"] == 16 and len(found["whole"]["fingerprint"]) == 64
    assert sum(len(run["kills"]) for run in found["killed"]) == 3
    whole = tmp_path / "runs" / "whole"
    assert {"report.html", "report.json", "evaluation.json", "stages.json"} <= {path.name for path in whole.iterdir()}
    assert json.loads((whole / "stages.json").read_text()).keys() == {"install", "prepare", "vae", "encode", "dit", "sample"}

"""The launchers are run from the tree, and never installed: tests import them from there."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# What every target is asked for, but for what it alone needs.
ARGUMENTS = {
    "pod": ["--workdir=/tmp/run", "--topology=cpu:2"],
    "slurm": ["--workdir=/shared/run", "--topology=h100:64", "--partition=gpu"],
    "gke": ["--workdir=gs://bucket/run", "--topology=v5p:8x16x16", "--slices=2", "--image=registry.example/videodit:tpu"],
    "tpu-vm": ["--workdir=gs://bucket/run", "--topology=v6e:16x16", "--image=registry.example/videodit:tpu", "--zone=us-east5-b"],
}


@pytest.fixture(scope="session")
def arguments():
    """What each target is asked for in tests, without the config."""
    return ARGUMENTS


@pytest.fixture(scope="session")
def asked():
    """`asked("gke", "--slices=4")` is the job and the options of such a call; later arguments stand before earlier ones."""
    from launch.job import make_job
    from launch.submit import parser

    def make(target, *more):
        config = f"--config={ROOT}/experiments/sizes.py:8b"
        given, rest = parser().parse_known_args([target, config, *ARGUMENTS[target], *more])
        return make_job(given, rest), given

    return make

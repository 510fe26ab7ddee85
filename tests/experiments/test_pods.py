"""The runs for pods fit their pods: by arithmetic everywhere, by compiling one where libtpu is."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from experiments import pods
from videodit.core.config import load
from videodit.preflight.chips import GIB, parse_target
from videodit.preflight.estimate import estimate
from videodit.training.config import read_experiment

# | name | pod | peak GiB | ...
RECORDED = {row[0]: (row[1], float(row[2])) for row in re.findall(r"^\| (\w+) \| (v\w+:[\dx]+) \| ([\d.]+) \|", pods.__doc__, re.M)}


def test_every_run_has_its_row():
    assert {name: pod.topology for name, pod in pods.PODS.items()} == {name: topology for name, (topology, _) in RECORDED.items()}


@pytest.mark.parametrize("variant", pods.PODS)
def test_a_run_fits_its_pod_by_arithmetic_which_is_near_what_was_compiled(variant):
    config, (topology, peak) = read_experiment(load(f"experiments/pods.py:{variant}")), RECORDED[variant]
    target = parse_target(topology)
    found = estimate(config, target).peak_bytes / GIB
    assert peak <= target.chip.hbm_bytes / GIB and found <= target.chip.hbm_bytes / GIB
    assert found == pytest.approx(peak, rel=0.3)
    assert config.packing.rows % (target.devices // config.mesh.context) == 0  # whole rows for all
    assert config.latents.policy.max_tokens + config.packing.max_text_tokens <= config.packing.length


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'jax[tpu]'")
def test_the_cheapest_run_passes_preflight():
    command = [sys.executable, "-m", "videodit.cli", "preflight", "--config=experiments/pods.py:image_1b", "--topology=v5p:2x2x4"]
    done = subprocess.run([*command, "--program=train"], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert float(re.search(r"train: peak ([\d.]+) of", done.stdout)[1]) == pytest.approx(RECORDED["image_1b"][1], rel=0.05)

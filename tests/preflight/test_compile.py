"""A job's programs are compiled for devices that are not there: they are the job's own, with the plan's kernel in them."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from videodit.core.errors import UserError
from videodit.preflight.compile import (
    DoesNotFit,
    _compile,
    compile_sample,
    compile_train,
    job_model,
    largest_clip,
    topology_devices,
    train_batch,
)

SCRIPT = pathlib.Path(__file__).with_name("compile_for_tpu.py")


def test_a_step_is_compiled_for_the_devices_given(tiny):
    made = compile_train(tiny(), jax.devices())
    assert {"parameters", "optimizer", "average", "batch", "other"} == set(made.arguments)
    assert made.arguments["parameters"] == made.arguments["average"] < made.arguments["optimizer"]
    # the state's own bytes are XLA's
    assert sum(made.arguments.values()) == pytest.approx(made.executable.memory_analysis().argument_size_in_bytes, rel=0.01)
    assert made.peak_bytes > sum(made.arguments.values())


def test_a_sampler_is_compiled_as_generation_runs_it(tiny):
    made = compile_sample(tiny(sample={"steps": 3, "solver": "euler"}), jax.devices())
    assert set(made.arguments) == {"parameters", "batch"} and made.peak_bytes > made.arguments["parameters"]


def test_a_vaes_batch_has_its_largest_clips(tiny):
    config = tiny("vae")
    pixels = train_batch(config, job_model(config))["pixels"]
    policy = config.vae_training.stages[0].policy
    assert pixels.shape[1] == policy.max_frames and pixels.shape[0] == config.vae_training.stages[0].batch


def test_the_largest_clip_has_all_tokens_that_the_policy_lets_in(tiny):
    policy = tiny().latents.policy
    frames, height, width = largest_clip(tiny())
    t, h, w = policy.grid
    count = (1 + (frames - 1) // t) * (height // h) * (width // w)
    assert frames == policy.max_frames and 0.5 * policy.max_tokens < count <= policy.max_tokens


def test_what_xla_has_no_room_for_is_told_in_bytes():
    said = "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (24.50G) exceeds available HBM (15.75G)."

    class Refused:
        def compile(self):
            raise jax.errors.JaxRuntimeError(said)

    with pytest.raises(DoesNotFit) as told:
        _compile("train", None, {}, Refused)
    assert told.value.needed == 24.5 * 2**30 and told.value.program == "train"


def test_a_topology_that_there_is_not_is_named():
    with pytest.raises(UserError, match="topology 'v9x:3'.*expected e.g. v5e:4x4"):
        topology_devices("v9x:3")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'jax[tpu]'")
def test_the_step_compiles_for_every_kind_of_tpu_with_the_plans_kernel_and_gathers_no_row():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [each["topology"].split(":")[0] for each in told] == ["v5e", "v5p", "v6e", "tpu7x"]
    for found in told:
        assert 2 * found["layers"] <= found["kernels"] < 3 * found["layers"]  # one forward, which remat keeps, and one back
        gathers = [each["shape"] for each in found["collectives"] if each["kind"] == "all-gather"]
        assert all(found["length"] not in shape for shape in gathers), gathers
        assert found["axes"] == ["fsdp"] and found["cycles"] > 0 and found["bytes"] > 0
    (slices,) = (each for each in told if each["slices"] == 2)
    assert slices["dcn"] > 0

"""Every set of compiler flags is one that the compiler takes, for the chips that it is for."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from launch.machines import GPUS, TPUS
from videodit.preflight.xla_flags import environment, flags_for

SCRIPT = pathlib.Path(__file__).with_name("compile_with_flags.py")
SLICES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "tpu7x": "tpu7x:2x2x1"}

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'jax[tpu]'")


def compile_for(topology, slices, flags):
    tpu = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    command = [sys.executable, str(SCRIPT), topology, str(slices)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **tpu, **flags}, timeout=120)


def test_every_kind_has_its_flags_once_and_each_says_why():
    for kind in (*TPUS, *GPUS):
        flags = flags_for(kind, slices=2 if kind in TPUS else 1)
        names = [flag.name for flag in flags]
        assert names and len(set(names)) == len(names)
        assert all(flag.reason and flag.source for flag in flags)
    assert set(SLICES) == set(TPUS)
    assert not environment("cpu")


@needs_libtpu
@pytest.mark.parametrize("kind", TPUS)
def test_a_sharded_program_compiles_with_the_flags_of_its_chip(kind):
    # the flags of two slices are those of one and more
    done = compile_for(SLICES[kind], 2, environment(kind, 2))
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["collectives"] > 0


@needs_libtpu
@pytest.mark.parametrize("flag", ["--xla_tpu_no_such_flag=true", "--xla_tpu_enable_async_collective_fusion=sometimes"])
def test_the_compiler_refuses_what_it_does_not_know(flag):
    assert compile_for("v5e:2x2", 1, {"LIBTPU_INIT_ARGS": flag}).returncode != 0


def start_jax(flags):
    program = [sys.executable, "-c", "import jax; jax.numpy.zeros(1)"]
    return subprocess.run(program, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu", **flags}, timeout=120)


def test_xla_knows_the_flags_for_gpus():
    # every build of XLA reads the flags of every backend
    done = start_jax(environment("h100"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert start_jax({"XLA_FLAGS": "--xla_gpu_no_such_flag=true"}).returncode != 0

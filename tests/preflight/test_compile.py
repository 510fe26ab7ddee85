"""A train step is compiled for devices that are not there: it is the job's own, with the plan's kernel in it."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from videodit.core.errors import UserError
from videodit.preflight.compile import collectives, compile_dit_step, topology_devices

SCRIPT = pathlib.Path(__file__).with_name("compile_for_tpu.py")
HLO = """
  %all-gather.3 = bf16[16,128]{1,0:T(8,128)(2,1)} all-gather(%param.1), channel_id=1
  %ag = (f32[4,8]{1,0}, f32[32,8]{1,0}) all-gather-start(%param.2), channel_id=2
  %all-reduce.1 = f32[] all-reduce(%x), channel_id=3
  %add.2 = f32[4,8]{1,0} add(%a, %b)
"""


def test_collectives_are_read_off_a_programs_text():
    found = collectives(HLO)
    assert [(each["kind"], each["bytes"]) for each in found] == [
        ("all-gather", 16 * 128 * 2),
        ("all-gather", 32 * 8 * 4),
        ("all-reduce", 4),
    ]


def test_a_step_is_compiled_for_the_devices_given(tiny):
    compiled = compile_dit_step(tiny(), jax.devices())
    assert compiled.memory_analysis().argument_size_in_bytes > 1000


def test_a_topology_that_there_is_not_is_named():
    with pytest.raises(UserError, match="topology 'v9x:3'.*expected e.g. v5e:4x4"):
        topology_devices("v9x:3")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'jax[tpu]'")
def test_the_step_compiles_for_tpus_with_the_plans_kernel_and_gathers_no_row():
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kernels"] >= 3  # forward, and backward for queries and for keys
    gathers = [each["shape"] for each in found["collectives"] if each["kind"] == "all-gather"]
    assert gathers and all(found["length"] not in shape for shape in gathers), gathers

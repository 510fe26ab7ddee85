"""Attention that is spread over rows, heads and queries is that of one device, values and gradients."""

import json
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).with_name("attend_on_meshes.py")


def test_every_layout_gives_what_one_device_gives():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"blocked rows", "blocked heads", "blocked queries", "blocked all", "splash all", "triton all"}
    assert max(found.values()) < 2e-5, found

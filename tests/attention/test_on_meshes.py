"""Attention spread over rows, heads and queries is that of one device, values and gradients, however devices that share a row meet."""

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
    differences, moved = found["differences"], found["moved"]
    assert len(differences) == 14 and max(differences.values()) < 2e-5, differences
    carries = {"gather": "all-gather", "all_to_all": "all-to-all", "ring": "collective-permute"}
    for case, kinds in moved.items():
        backend, mesh, context = case.split()
        shared = {carries[context]} if mesh in ("queries", "all") else set()
        assert set(kinds) & set(carries.values()) == shared, case

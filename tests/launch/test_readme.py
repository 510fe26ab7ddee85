"""What the README shows of `--dry-run` is what it prints."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHOWN = re.findall(r"```bash\n\$ python launch/submit\.py (.*)\n((?s:.*?))\n```", (ROOT / "README.md").read_text())


def test_every_target_is_shown():
    assert [call.split()[0] for call, _ in SHOWN] == ["pod", "slurm", "gke", "tpu-vm"]


@pytest.mark.skipif(bool(re.search(r"[^\w./+@-]", f"{ROOT}{sys.executable}")), reason="paths with other characters are quoted")
@pytest.mark.parametrize(("call", "shown"), SHOWN, ids=[call.split()[0] for call, _ in SHOWN])
def test_a_dry_run_is_as_shown(call, shown):
    command = [sys.executable, "launch/submit.py", *call.split()]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=True).stdout
    assert said.replace(sys.executable, "~/venv/bin/python").replace(str(ROOT), "~/videodit").rstrip() == shown

"""Runs one stage of a job and adds its wall seconds to `WORKDIR/stages.json`, once a second, so that a kill loses none.

    python stages.py WORKDIR STAGE -- COMMAND [ARGUMENT ...]

Exits with the command's status. Standard library only: it times the install too.
"""

import ctypes
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time


def die_with_parent() -> None:
    """Asks the kernel (Linux) to kill this process when its parent ends.

    A killed job must not leave a trainer behind that writes into the workdir beside the run that goes on.
    """
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def read_seconds(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def write_seconds(path: Path, seconds: dict[str, float]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(seconds, indent=2) + "\n")
    os.replace(partial, path)


def run(workdir: Path, stage: str, command: list[str]) -> int:
    """Runs `command` and returns its exit status (128 + n where signal n ended it)."""
    path = workdir / "stages.json"
    seconds = read_seconds(path)
    before, start = seconds.get(stage, 0.0), time.monotonic()
    # An interrupt from the terminal reaches the command too; this process stays to write down its time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def begin() -> None:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    child = subprocess.Popen(command, preexec_fn=begin)
    while True:
        try:
            status = child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            status = None
        seconds[stage] = round(before + time.monotonic() - start, 3)
        write_seconds(path, seconds)
        if status is not None:
            return status if status >= 0 else 128 - status


def main() -> int:
    die_with_parent()
    workdir, stage, separator, *command = sys.argv[1:]
    assert separator == "--" and command, __doc__
    return run(Path(workdir), stage, command)


if __name__ == "__main__":
    sys.exit(main())

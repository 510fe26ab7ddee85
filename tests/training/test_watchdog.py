"""A process whose steps do not finish ends with the status that asks for a restart, and says where it hung."""

import subprocess
import sys
import time

import pytest

from videodit.core.errors import RESTART_STATUS
from videodit.training.watchdog import Watchdog, stacks

HANG = """
import sys, threading, time
from videodit.training.watchdog import Watchdog
def stuck_in_a_collective():
    threading.Event().wait()
with Watchdog(float(sys.argv[1]), lambda text: print(text, file=sys.stderr, flush=True)) as watchdog:
    for _ in range(5):
        time.sleep(0.1)
        watchdog.alive()
    print("alive", flush=True)
    stuck_in_a_collective()
"""


def test_a_process_that_hangs_ends_with_the_restart_status_and_its_stacks():
    done = subprocess.run([sys.executable, "-c", HANG, "0.4"], capture_output=True, text=True, timeout=60)
    assert done.returncode == RESTART_STATUS == 75
    assert done.stdout == "alive\n"  # signs of life kept it going for longer than it waits
    assert "no step has finished for 0.4 s" in done.stderr and "stuck_in_a_collective" in done.stderr


def test_a_log_that_cannot_be_written_does_not_keep_it_from_ending():
    code = HANG.replace("lambda text: print(text, file=sys.stderr, flush=True)", "lambda text: 1 / 0")
    assert subprocess.run([sys.executable, "-c", code, "0.4"], capture_output=True, timeout=60).returncode == RESTART_STATUS


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_it_lets_go_when_its_block_ends(seconds):
    with Watchdog(seconds, lambda text: None):
        pass
    time.sleep(0.3)  # this process goes on


def test_stacks_are_of_all_threads():
    assert "test_stacks_are_of_all_threads" in stacks()

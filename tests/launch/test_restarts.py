"""What is started again, and when it is enough."""

import pathlib
import subprocess
import sys

import pytest

from launch.restarts import Restarts, newest_step
from videodit.core.errors import RESTART_STATUS

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("status", [RESTART_STATUS, 1, 128 + 9])
def test_a_run_that_makes_progress_is_started_again_for_ever(status):
    restarts = Restarts(limit=1)
    assert all(restarts.again(status, newest) for newest in range(50))


@pytest.mark.parametrize("status", [RESTART_STATUS, 1, 128 + 9])
def test_one_that_makes_none_is_given_up(status):
    restarts = Restarts(limit=2, newest=4)
    assert [restarts.again(status, 4) for _ in range(3)] == [True, True, False]
    assert "3 ends in a row left no newer checkpoint" in restarts.told(status, False)


def test_a_newer_checkpoint_begins_the_count_anew():
    restarts = Restarts(limit=1)
    assert [restarts.again(1, newest) for newest in (-1, 3, 3, 6, 6, 6)] == [True, True, True, True, True, False]


@pytest.mark.parametrize("status", [0, 2])
def test_a_finished_run_and_a_mistake_are_not_started_again(status):
    assert not Restarts().again(status, 100)


def test_unfinished_checkpoints_do_not_count(tmp_path):
    assert newest_step(str(tmp_path)) == -1
    for name in ("2", "10", "12.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert newest_step(str(tmp_path)) == 10


def test_a_script_asks_over_several_processes_and_a_stop_forgets(tmp_path):
    def ask(status):
        command = [sys.executable, str(ROOT / "launch/restarts.py"), f"--workdir={tmp_path}", f"--status={status}", "--limit=1"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).returncode

    assert [ask(RESTART_STATUS), ask(RESTART_STATUS), ask(RESTART_STATUS), ask(0)] == [0, 1, 0, 1]

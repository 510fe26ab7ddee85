"""Every runner does each task once, in other processes where it can, and a crash there is an error and not the end."""

import os
import pathlib
import signal
import sys
import time

import pytest

from videodit.core.errors import UserError
from videodit.data.runners import Apart, Beam, CrashError, HungError, Local


def square(number):
    if number == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number * number, os.getpid()


def work(task, call):
    folder, number = task
    try:
        squared, process = call(square, number)
    except CrashError:
        squared, process = "crash", 0
    (pathlib.Path(folder) / f"{number}").write_text(f"{squared} {process}")


def results(folder):
    return {int(path.name): path.read_text().split() for path in folder.glob("*") if path.name.isdigit()}


@pytest.mark.parametrize("workers", [1, 2])
def test_local_does_every_task(tmp_path, workers):
    done = list(Local(workers).run(work, [(tmp_path, n) for n in range(6)], tmp_path))
    found = results(tmp_path)
    assert sorted(done) == list(range(6)) and {n: int(each[0]) for n, each in found.items()} == {n: n * n for n in range(6)}
    processes = {int(each[1]) for each in found.values()}
    assert processes == {os.getpid()} if workers == 1 else os.getpid() not in processes and len(processes) <= 2


def test_a_crash_costs_only_its_task(tmp_path):
    list(Local(2).run(work, [(tmp_path, n) for n in (12, 13, 14, 15)], tmp_path))
    assert {n: each[0] for n, each in results(tmp_path).items()} == {12: "144", 13: "crash", 14: "196", 15: "225"}


def fail(task, call):
    raise ValueError(f"no luck with {task}")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_comes_out(tmp_path, workers):
    with pytest.raises(ValueError, match="no luck with 0"):
        list(Local(workers).run(fail, [0], tmp_path))


def test_apart_answers_again_after_a_crash():
    apart = Apart()
    try:
        with pytest.raises(CrashError, match="square has crashed"):
            apart(square, 13)
        assert apart(square, 3)[0] == 9
    finally:
        apart.close()


def test_beams_local_runner_does_every_task_in_several_processes(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pathlib.Path(__file__).parent), *sys.path]))
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
    import test_runners  # Beam's processes import it by this name

    runner = Beam(("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"))
    done = list(runner.run(test_runners.work, [(tmp_path, n) for n in range(10, 16)], tmp_path))
    found = results(tmp_path)
    assert done == list(range(6)) and {n: each[0] for n, each in found.items()} == {
        10: "100", 11: "121", 12: "144", 13: "crash", 14: "196", 15: "225",
    }  # fmt: skip
    assert os.getpid() not in {int(each[1]) for each in found.values()} and not (tmp_path / ".partial-tasks").exists()


def test_without_beam_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "videodit.data.beam", raising=False)
    monkeypatch.delattr("videodit.data.beam", raising=False)
    with pytest.raises(UserError, match="--runner=DirectRunner needs Apache Beam: pip install 'videodit\\[prepare\\]'"):
        list(Beam(("--runner=DirectRunner",)).run(work, [(tmp_path, 1)], tmp_path))


def test_a_misspelt_runner_is_not_passed_over():
    with pytest.raises(UserError, match="--runer=DataflowRunner name no --runner"):
        Beam(("--runer=DataflowRunner",))


def test_what_takes_too_long_is_ended_and_the_next_is_answered():
    apart = Apart()
    try:
        apart(square, 1)
        with pytest.raises(HungError, match="sleep took longer than 1 s"):
            apart(time.sleep, 3600, limit=1)
        assert apart(square, 5, limit=60)[0] == 25
    finally:
        apart.close()

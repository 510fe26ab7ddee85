"""A pod on one machine: its processes end together and are started again together, and a kill costs nothing but time."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from launch import pod
from launch.restarts import newest_step
from videodit.core.errors import RESTART_STATUS
from videodit.training import checkpoint_contents

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Stands for a training process: INDEX is its own, `start` how often it has been started, `save(step)` makes a checkpoint.
WORKER = """
import os, pathlib, signal, sys, time
workdir = pathlib.Path(sys.argv[1])
INDEX = int(os.environ["VIDEODIT_PROCESSES"].partition("/")[0])
notes = workdir / f"starts-{INDEX}"
start = len(notes.read_text().splitlines()) if notes.exists() else 0
with notes.open("a") as file:
    print(os.getpid(), file=file)
save = lambda step: (workdir / "checkpoints" / str(step)).mkdir(parents=True)
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
wait = lambda seconds=60: time.sleep(seconds)
# both have begun
while not all((workdir / f"starts-{i}").exists() and len((workdir / f"starts-{i}").read_text().splitlines()) > start for i in (0, 1)):
    time.sleep(0.01)
"""


@pytest.fixture
def run(asked, tmp_path, monkeypatch):
    """`run(program)` runs a pod of two processes with the end of such a program; returns the pod's status and the starts of each."""

    def start(program, *more):
        monkeypatch.setattr(pod, "command", lambda job: [sys.executable, "-c", WORKER + program, str(tmp_path)])
        status = pod.run(*asked("pod", f"--workdir={tmp_path}", *more))
        return status, [len((tmp_path / f"starts-{index}").read_text().splitlines()) for index in (0, 1)]

    start.workdir = tmp_path
    return start


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_a_pod_that_finishes_is_done(run):
    assert run("sys.exit(0)") == (0, [1, 1])


@pytest.mark.parametrize("way", ["die()", "sys.exit(1)", f"sys.exit({RESTART_STATUS})"])
def test_when_one_ends_all_are_started_again(run, way):
    # the other one waits for it, as a process does in a collective
    other = "wait()" if way != f"sys.exit({RESTART_STATUS})" else way
    assert run(f"if start == 2: sys.exit(0)\nif INDEX:\n    save(start)\n    {way}\n{other}") == (0, [3, 3])


def test_a_pod_that_makes_no_progress_is_given_up(run):
    assert run("die() if INDEX else wait()", "--restarts=2") == (128 + signal.SIGKILL, [3, 3])


def test_a_mistake_is_not_repeated(run):
    assert run("sys.exit(2)") == (2, [1, 1])


def test_a_pod_that_is_told_to_stop_lets_all_save_and_stays_ended(run):
    program = f"""
def stop(*_):
    time.sleep(0.2)
    if INDEX == 0: save(7)
    sys.exit({RESTART_STATUS})
signal.signal(signal.SIGTERM, stop)
(workdir / f"ready-{{INDEX}}").touch()
wait()
"""

    def tell():
        wait_for(lambda: all((run.workdir / f"ready-{index}").exists() for index in (0, 1)))
        os.kill(os.getpid(), signal.SIGTERM)

    teller = threading.Thread(target=tell)
    teller.start()
    before = signal.getsignal(signal.SIGTERM)
    assert run(program) == (RESTART_STATUS, [1, 1])
    teller.join()
    assert newest_step(str(run.workdir)) == 7 and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux")
def test_no_process_outlives_its_launcher(asked, tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launch import pod
from launch.job import make_job
from launch.submit import parser
pod.command = lambda job: [sys.executable, "-c", {WORKER + "wait()"!r}, {str(tmp_path)!r}]
given, rest = parser().parse_known_args(["pod", "--config={ROOT}/tests/tiny.py:dit", "--workdir={tmp_path}", "--topology=cpu:2"])
pod.run(make_job(given, rest), given)
"""
    launcher = subprocess.Popen([sys.executable, "-c", program])
    notes = [tmp_path / f"starts-{index}" for index in (0, 1)]
    wait_for(lambda: all(each.exists() and each.read_text().endswith("\n") for each in notes))
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not any(alive(int(each.read_text())) for each in notes))


def test_devices_are_shared_out(asked):
    told = pod.environments(*asked("pod", "--topology=cpu:8", "--processes=2"), "127.0.0.1:1")
    assert [each["VIDEODIT_PROCESSES"] for each in told] == ["0/2@127.0.0.1:1", "1/2@127.0.0.1:1"]
    assert {each["XLA_FLAGS"] for each in told} == {"--xla_force_host_platform_device_count=4"}
    told = pod.environments(*asked("pod", "--topology=h100:8", "--processes=4"), "127.0.0.1:1")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in told] == ["0,1", "2,3", "4,5", "6,7"]
    assert all("latency_hiding" in each["XLA_FLAGS"] for each in told)
    (alone,) = pod.environments(*asked("pod", "--topology=cpu:2", "--processes=1"), "127.0.0.1:1")
    assert "VIDEODIT_PROCESSES" not in alone


def trained(workdir):
    """All that a run has made: its last step, every array of its state, and where it stood in the data."""
    step = checkpoint_contents.finished_steps(workdir)[-1]
    newest = workdir / "checkpoints" / str(step)
    arrays = checkpoint_contents.read(newest, checkpoint_contents.leaves(newest))
    return step, checkpoint_contents.fingerprint(arrays), checkpoint_contents.data_position(newest)


@pytest.mark.slow
def test_one_of_two_workers_killed_is_started_again_and_ends_bit_for_bit_the_same(tiny_latents, tmp_path):
    config = [f"--config={ROOT}/tests/tiny.py:dit", "--topology=cpu:2", "--config.train.steps=8", "--config.train.save_every=2"]
    config += [f"--config.data.path={tiny_latents / 'dataset'}", "--config.train.sample_every=1000", "--config.sample.count=1"]
    config += [
        "--config.sample.sizes=((16,16),)",
        "--config.sample.frames=(1,)",
        "--config.sample.steps=1",
    ]  # drawn before and after all steps
    config += [f"--config.latents.path={tiny_latents / 'latents'}", f"--config.latents.vae={tiny_latents / 'vae'}"]

    def start(workdir):
        command = [sys.executable, str(ROOT / "launch/submit.py"), "pod", f"--workdir={workdir}", *config]
        with open(f"{workdir}.log", "w") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def end(launcher, workdir):
        launcher.wait(timeout=240)
        said = pathlib.Path(f"{workdir}.log").read_text()
        assert launcher.returncode == 0, said[-3000:]
        return said

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert "starting again" not in end(start(whole), whole)
    launcher = start(killed)
    try:
        wait_for(lambda: newest_step(str(killed)) > 0 or launcher.poll() is not None, seconds=200)
        pids = re.findall(r"launch: started processes (\d+) (\d+)", pathlib.Path(f"{killed}.log").read_text())
        os.kill(int(pids[-1][1]), signal.SIGKILL)
        assert end(launcher, killed).count("starting again") == 1
    finally:
        launcher.kill()
    assert trained(killed) == trained(whole)

"""A training process that is told to stop saves, and its exit status asks for a restart."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from videodit.core.errors import RESTART_STATUS, RestartAsked
from videodit.training import checkpoint_contents
from videodit.training.stopping import StopSignal, restart_when_told

TINY = pathlib.Path(__file__).parents[1] / "tiny.py"


def test_sigterm_ends_the_command_with_the_restart_status_and_a_checkpoint(tiny_dataset, tmp_path):
    command = [sys.executable, "-m", "videodit.cli", "train", f"--config={TINY}:vae", f"--workdir={tmp_path}"]
    command += [f"--config.data.path={tiny_dataset / 'dataset'}", "--config.train.steps=100000", "--config.train.save_every=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    lines = tmp_path / "metrics" / "metrics.jsonl"
    while process.poll() is None and not (lines.exists() and lines.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == RESTART_STATUS, said[-2000:]
    (step,) = checkpoint_contents.finished_steps(tmp_path)
    assert f"it has saved step {step} of 100000" in said
    assert json.loads(lines.read_text().splitlines()[-1])["step"] == step


def test_a_signal_is_heard_inside_the_block_alone():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
    try:
        with StopSignal() as stop:
            assert not stop.asked()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked() and not heard
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["before"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_in_another_thread_leaves_signals_alone():
    found = []

    def run():
        with StopSignal() as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.asked()))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(before, False)]


def test_what_keeps_all_that_is_finished_asks_for_a_restart_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RestartAsked, match="the same command goes on"), restart_when_told():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert signal.getsignal(signal.SIGTERM) is before

"""Several processes that train one job see the same batches as one process, and a resume on another number of them goes on."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from videodit.core.config import write_config
from videodit.core.errors import RESTART_STATUS
from videodit.training import checkpoint_contents

SCRIPT = pathlib.Path(__file__).with_name("train_in_processes.py")

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(config, workdir, count):
    write_config(workdir / "given", config)
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(workdir / "given" / "config.json"), str(workdir), str(port), str(count), str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        )
        for index in range(count)
    ]


def finish(running, status=0):
    """What each said, as (stdout, stderr)."""
    try:
        said = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, error) in zip(running, said):
        assert process.returncode == status, error[-3000:]
    return said


def train(config, workdir, count):
    said = finish(start(config, workdir, count))
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.fixture
def config(tiny, tiny_latents):
    paths = {"data": {"path": str(tiny_latents / "dataset")}, "latents": {"path": str(tiny_latents / "latents")}}
    return lambda variant, steps: tiny(variant, **paths, train={"steps": steps, "log_every": 1, "save_every": 3, "sample_every": 6})


def test_two_processes_train_as_one_does_and_hand_over(config, tmp_path):
    (alone,) = train(config("dit", 6), tmp_path / "alone", 1)
    both = train(config("dit", 3), tmp_path / "two", 2)
    assert [each["batches"] for each in both] == [alone["batches"]] * 2 and len(set(alone["batches"])) == 6
    np.testing.assert_allclose(both[0]["losses"], alone["losses"][:3], rtol=1e-4)
    (handed,) = train(config("dit", 6), tmp_path / "two", 1)  # one process goes on from what two have saved
    assert handed["position"] == alone["position"]
    assert len(handed["losses"]) == 6 and np.isfinite(handed["losses"]).all()


def test_two_processes_give_the_vae_the_batches_of_one(config, tmp_path):
    (alone,) = train(config("vae", 1), tmp_path / "alone", 1)
    both = train(config("vae", 1), tmp_path / "two", 2)
    assert [each["batches"] for each in both] == [alone["batches"]] * 2 and len(set(alone["batches"])) == 6


def test_two_processes_of_which_one_is_told_to_stop_save_the_same_step_and_go_on(config, tmp_path):
    running = start(config("dit", 5000), tmp_path, 2)
    lines = tmp_path / "metrics" / "metrics.jsonl"
    while all(process.poll() is None for process in running) and not (lines.exists() and lines.read_text()):
        time.sleep(0.1)
    running[1].send_signal(signal.SIGTERM)
    said = [re.search(r"it has saved step (\d+) of 5000", error) for _, error in finish(running, RESTART_STATUS)]
    assert said[0] and said[1] and said[0][1] == said[1][1]
    step = int(said[0][1])
    assert checkpoint_contents.finished_steps(tmp_path)[-1] == step
    (gone_on, _) = train(config("dit", step + 2), tmp_path, 2)
    assert len(gone_on["losses"]) == step + 2 and np.isfinite(gone_on["losses"]).all()

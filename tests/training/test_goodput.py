"""Every second is booked once, and an earlier process's ledger goes on."""

import json
import time

import jax
import jax.numpy as jnp
import pytest

from videodit.training.goodput import KINDS, Goodput


def seconds(path):
    return json.loads(path.read_text())["seconds"]


def test_shares_make_one_and_compiling_is_told_from_the_rest(tmp_path):
    begun = time.perf_counter()
    ledger = Goodput(tmp_path / "goodput.json")
    ledger.begin(0)
    time.sleep(0.05)
    ledger.spent("data")
    jax.jit(lambda x: jnp.sin(x) * 3.25 + len(str(tmp_path)))(jnp.ones(7)).block_until_ready()
    ledger.spent("useful", steps=1)
    ledger.write(1)
    found, passed = seconds(tmp_path / "goodput.json"), time.perf_counter() - begun
    assert sum(ledger.shares().values()) == pytest.approx(1) and len(ledger.shares()) == len(KINDS)
    assert sum(found.values()) == pytest.approx(passed, abs=0.05) and found["data"] >= 0.05 and found["compile"] > 0


def test_steps_that_a_kill_lost_and_the_time_between_are_a_restart(tmp_path):
    path = tmp_path / "goodput.json"
    before = {"seconds": {"useful": 100.0, "data": 10.0}, "steps": 50, "reached": 50, "time": time.time() - 30, "finished": False}
    path.write_text(json.dumps(before))
    ledger = Goodput(path)
    ledger.begin(40)
    ledger.write(40)
    found = seconds(path)
    assert found["useful"] == pytest.approx(80) and found["data"] == 10.0
    assert found["restart"] == pytest.approx(30 + 20, abs=1.0)


def test_the_time_after_a_finished_run_is_no_loss(tmp_path):
    path = tmp_path / "goodput.json"
    path.write_text(json.dumps({"seconds": {"useful": 9.0}, "steps": 3, "reached": 3, "time": time.time() - 1000, "finished": True}))
    ledger = Goodput(path)
    ledger.begin(3)
    assert ledger.shares()["goodput"] > 0.8


def test_skipped_steps_are_booked_at_the_mean_of_steps(tmp_path):
    path = tmp_path / "goodput.json"
    path.write_text(json.dumps({"seconds": {"useful": 10.0}, "steps": 5, "reached": 5, "time": time.time(), "finished": False}))
    ledger = Goodput(path)
    ledger.lose(2, "skipped")
    ledger.write(5)
    assert seconds(path)["skipped"] == pytest.approx(4) and seconds(path)["useful"] == pytest.approx(6)


def test_a_quiet_ledger_writes_nothing(tmp_path):
    Goodput(tmp_path / "goodput.json", quiet=True).write(1)
    assert not list(tmp_path.iterdir())

"""Checkpoints come back whole, what is damaged or half written is told and not used, and what is to stay stays."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.training import checksums, inspect
from videodit.training.checkpoints import Checkpoints, restore_weights
from videodit.training.config import OptimizerConfig
from videodit.training.state import init_state, make_optimizer


class Model:
    def init(self, key):
        return {"block": {"kernel": jax.random.normal(key, (3, 2))}, "bias": jnp.ones(2, jnp.bfloat16)}

    def statistics(self):
        return {"mean": jnp.arange(2.0)}


def state_at(step):
    state = init_state(Model(), make_optimizer(OptimizerConfig(), 10), seed=step)
    return state | {"step": jnp.asarray(step, jnp.int32)}


def save(workdir, *steps, scores=None, **policies):
    checkpoints = Checkpoints(workdir, **policies)
    for step in steps:
        checkpoints.save(state_at(step), {"next_index": step, "parent": {"rows": [1, step]}}, scores and scores[step])
    checkpoints.close()


def kept(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_state_and_data_position_come_back_as_they_were(tmp_path):
    save(tmp_path, 3, 5)
    checkpoints = Checkpoints(tmp_path)
    for step, asked in ((5, None), (3, 3)):
        state, data = checkpoints.restore(state_at(0), asked)
        assert_equal(state, state_at(step))
        assert data == {"next_index": step, "parent": {"rows": [1, step]}}


def test_only_the_newest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert kept(tmp_path) == [3, 4]


def test_multiples_stay_beside_the_newest(tmp_path):
    save(tmp_path, *range(1, 9), keep=1, keep_every=3)
    assert kept(tmp_path) == [3, 6, 8]


def test_the_lowest_scores_stay_over_restarts_beside_the_newest(tmp_path):
    scores = {1: 5.0, 2: 1.0, 3: 4.0, 4: float("nan"), 5: 2.0, 6: 9.0, 7: 8.0, 8: None}
    save(tmp_path, 1, 2, 3, 4, keep=1, keep_best=2, scores=scores)
    assert kept(tmp_path) == [2, 3, 4]
    save(tmp_path, 5, 6, 7, 8, keep=1, keep_best=2, scores=scores)
    assert kept(tmp_path) == [2, 5, 8]


def test_a_save_is_of_the_state_as_it_was_whatever_the_next_step_writes_into_it(tmp_path):
    """Saving is held up, and the state is given away meanwhile, as the loop does."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 + 7, state), donate_argnums=0)
    state = jax.jit(lambda: {"params": jax.random.normal(jax.random.key(0), (512, 1024)), "step": jnp.asarray(1, jnp.int32)})()
    checkpoints, wanted = Checkpoints(tmp_path), np.array(state["params"])
    for number in (1, 2):  # the second from the buffers of the first
        state["step"] = jnp.asarray(number, jnp.int32)
        like = jax.tree.map(jnp.copy, state)
        checkpoints.save(state, {})
        state = jax.block_until_ready(step(state))
        found, _ = checkpoints.restore(like)
        np.testing.assert_array_equal(found["params"], wanted)
        wanted = np.full_like(wanted, 7)


def test_saving_goes_on_in_the_background(tmp_path, monkeypatch):
    go, checkpoints = threading.Event(), Checkpoints(tmp_path)
    monkeypatch.setattr(checksums, "by_name", lambda *_: (go.wait(60), {})[1])
    checkpoints.save(state_at(3), {})
    assert kept(tmp_path) == []  # it returned, and nothing is there yet
    go.set()
    checkpoints.wait()
    assert kept(tmp_path) == [3]
    checkpoints.close()


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    save(tmp_path, 3)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(3), {"next_index": 99})
    assert checkpoints.restore(state_at(0))[1]["next_index"] == 3


@pytest.mark.parametrize("name", ["7.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp-1234"])
def test_a_checkpoint_that_was_half_written_is_not_there_and_is_written_anew(tmp_path, name):
    save(tmp_path, 3)
    half = tmp_path / "checkpoints" / name / "state"
    half.mkdir(parents=True)
    (half / "_METADATA").write_text("{")
    said = []
    assert Checkpoints(tmp_path, tell=said.append).latest == 3
    assert said == [f"checkpoint {name} was left half written by a run that ended while saving; it is not used"]
    assert restore_weights(tmp_path)[1] == 3
    save(tmp_path, 7)
    assert_equal(Checkpoints(tmp_path).restore(state_at(0))[0], state_at(7))
    assert not half.exists()


def test_an_older_checkpoint_half_removed_does_no_harm(tmp_path):
    save(tmp_path, 3, 5)
    for path in (tmp_path / "checkpoints" / "3" / "state").glob("_*"):
        path.unlink()
    assert Checkpoints(tmp_path).latest == 5
    assert_equal(Checkpoints(tmp_path).restore(state_at(0))[0], state_at(5))
    save(tmp_path, 7, keep=2)


def test_weights_come_back_as_numpy_without_the_optimizer(tmp_path):
    save(tmp_path, 3, 5)
    weights, step = restore_weights(tmp_path)
    assert step == 5 and weights.keys() == {"ema", "statistics"}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(weights))
    assert_equal(weights["ema"], jax.tree.map(np.asarray, state_at(5)["ema"]))
    assert_equal(restore_weights(tmp_path, 3)[0]["statistics"], jax.tree.map(np.asarray, state_at(3)["statistics"]))


def test_where_there_is_none_it_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="run `videodit train`"):
        restore_weights(tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        Checkpoints(tmp_path).restore(state_at(0))


def truncate(folder):
    for file in (folder / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(folder):
    """One bit of one value of an array comes back as another."""
    state = state_at(5)
    bits = np.array(state["ema"]["block"]["kernel"]).view(np.uint32)
    bits[1, 1] ^= 1
    state["ema"]["block"]["kernel"] = jnp.asarray(bits.view(np.float32))
    checkpoints = Checkpoints(folder.parent.parent / "other")
    checkpoints.save(state, {})
    checkpoints.close()
    shutil.rmtree(folder / "state")
    shutil.copytree(folder.parent.parent / "other" / "checkpoints" / "5" / "state", folder / "state")


def other_position(folder):
    (folder / "data" / "metadata").write_text(json.dumps({"next_index": 4}))


DAMAGE = {
    "cut short": truncate,
    "one bit": flip,
    "no data position": lambda folder: (folder / "data" / "metadata").unlink(),
    "another data position": other_position,
    "no metadata": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "half metadata": lambda folder: (folder / "state" / "_METADATA").write_text("{"),
    "no manifest": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "nothing": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_it_is_used(tmp_path, how):
    save(tmp_path, 3, 5)
    DAMAGE[how](tmp_path / "checkpoints" / "5")
    said = []
    checkpoints = Checkpoints(tmp_path, keep=1, tell=said.append)
    state, data = checkpoints.restore(state_at(0))
    assert_equal(state, state_at(3))
    assert data["next_index"] == 3 and any("checkpoint 5 is damaged" in line for line in said)
    assert (tmp_path / "checkpoints" / "5.damaged").exists() and checkpoints.latest == 3
    checkpoints.save(state_at(5), {"next_index": 5})  # and it is written anew
    checkpoints.close()
    assert_equal(Checkpoints(tmp_path).restore(state_at(0))[0], state_at(5))


def test_the_last_checkpoint_is_never_given_up(tmp_path):
    save(tmp_path, 3)
    truncate(tmp_path / "checkpoints" / "3")
    with pytest.raises(UserError, match="3 cannot be read, and no older step is there"):
        Checkpoints(tmp_path).restore(state_at(0))
    assert kept(tmp_path) == [3]


def with_kernel(kernel):
    return {"params": {"block": {"kernel": kernel}, "bias": jnp.ones(2)}}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (with_kernel(jnp.ones((3, 4))), "params/block/kernel as float32 3x2, and the config's is float32 3x4"),
        (with_kernel(jnp.ones((3, 2), jnp.bfloat16)), "params/block/kernel as float32 3x2, and the config's is bfloat16 3x2"),
        ({"opt_state": {"momentum": jnp.ones(2)}}, "no opt_state/momentum"),
    ],
)
def test_a_checkpoint_of_another_model_is_no_damage(tmp_path, other, what):
    save(tmp_path, 3, 5)
    with pytest.raises(UserError, match=what):
        Checkpoints(tmp_path).restore(state_at(0) | other)
    assert kept(tmp_path) == [3, 5]


def test_a_checkpoint_that_is_older_than_the_guard_begins_with_a_new_one(tmp_path):
    old = {name: value for name, value in state_at(3).items() if name != "guard"}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(old, {})
    found, _ = checkpoints.restore(state_at(0))
    assert_equal(found, state_at(3))
    checkpoints.close()


@pytest.mark.parametrize("damage", [truncate, flip])
def test_weights_are_read_from_the_newest_undamaged_one_and_nothing_is_moved(tmp_path, caplog, damage):
    save(tmp_path, 3, 5)
    damage(tmp_path / "checkpoints" / "5")
    assert restore_weights(tmp_path)[1] == 3 and kept(tmp_path) == [3, 5]
    assert "5 is damaged" in caplog.text


SCRIPT = pathlib.Path(__file__).with_name("save_on_meshes.py")


def on_devices(devices, *arguments):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_checkpoint_of_eight_devices_is_restored_on_four_and_two(tmp_path):
    saved = on_devices(8, "save", tmp_path, '{"fsdp": 4, "tensor": 2}')
    assert saved["shards"] == 8
    for devices, mesh in ((4, '{"fsdp": 2, "tensor": 2}'), (2, '{"fsdp": 2}')):
        found = on_devices(devices, "restore", tmp_path, mesh)
        assert found["values"] == saved["values"] and found["position"] == {"next_index": 3} and found["shards"] == devices
    found = inspect.inspect(tmp_path / "checkpoints" / "3")
    kernel = next(each for each in found["arrays"] if each["name"] == "params/kernel")
    assert kernel["sharding"] == "fsdp x tensor of data=1 fsdp=4 tensor=2 context=1"
    assert "kernel  float32 16x8  512 bytes  fsdp x tensor" in inspect.to_text(found)

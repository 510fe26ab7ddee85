"""Checkpoints come back whole, and what a kill left half written is not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
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


def save(workdir, *steps, keep=None):
    checkpoints = Checkpoints(workdir, keep)
    for step in steps:
        checkpoints.save(state_at(step), {"next_index": step, "parent": {"rows": [1, step]}})
    checkpoints.close()


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
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == ["3", "4"]


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
    assert Checkpoints(tmp_path).latest == 3
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

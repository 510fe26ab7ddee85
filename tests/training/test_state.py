"""The train step is a pure function of (state, batch), and its averages are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.sharding.rules import path_name
from videodit.training.config import OptimizerConfig
from videodit.training.state import STATISTICS_DECAY, init_state, make_optimizer, make_step


class Line:
    """Fits `kernel * x + bias` to y; its one statistic is the mean of x, and what it drew is a metric. Rows weigh as `batch["weight"]` says
    where it takes a batch in parts."""

    def init(self, key):
        return {"kernel": jax.random.normal(key, (3,)), "bias": jnp.ones(())}

    def statistics(self):
        return {"mean": jnp.zeros(())}

    def loss(self, params, batch, key):
        error = (params["kernel"] * batch["x"]).sum(axis=-1) + params["bias"] - batch["y"]
        return jnp.square(error).mean(), ({"drawn": jax.random.uniform(key)}, {"mean": batch["x"].mean()})

    def draw(self, batch, key):
        return batch | {"noise": jax.random.normal(key, batch["y"].shape)}

    def loss_sum(self, params, drawn):
        error = (params["kernel"] * drawn["x"]).sum(axis=-1) + params["bias"] - drawn["y"] - drawn["noise"]
        return (drawn["weight"] * jnp.square(error)).sum(), {"weight": drawn["weight"].sum(), "error": error.sum()}

    def metrics(self, sums):
        return {"error": sums["error"]}


BATCH = {"x": jnp.arange(12.0).reshape(4, 3), "y": jnp.arange(4.0)}


def run(steps, seed=0, ema_decay=0.99):
    """States and metrics after each step, from step 0 on."""
    optimizer = make_optimizer(OptimizerConfig(warmup=2, learning_rate=0.1), 20)
    step = jax.jit(make_step(Line(), optimizer, ema_decay, seed))
    states, told = [init_state(Line(), optimizer, seed)], []
    for _ in range(steps):
        state, metrics = step(states[-1], BATCH)
        states.append(state)
        told.append(metrics)
    return states, told, step


class Parts(Line):
    def loss(self, params, batch, key):
        total, sums = self.loss_sum(params, self.draw(batch, key))
        return total / sums["weight"], (self.metrics(sums), {})

    def statistics(self):
        return {}


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step_of_the_whole(parts):
    optimizer = make_optimizer(OptimizerConfig(warmup=1, learning_rate=0.1), 20)
    batch = BATCH | {"weight": jnp.array([1.0, 3.0, 0.0, 2.0])}
    found = []
    for accumulate in (1, parts):
        step, state = jax.jit(make_step(Parts(), optimizer, 0.9, 0, accumulate)), init_state(Parts(), optimizer, 0)
        for _ in range(3):
            state, told = step(state, batch)
        found.append((state, told))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), *found)


def test_parameters_of_few_digits_follow_those_of_many_and_only_they_and_the_first_moment_are_small():
    class Wide(Line):
        def init(self, key):
            return {"kernel": jnp.ones(3000), "bias": jnp.zeros(())}

        def loss(self, params, batch, key):
            return params["kernel"].astype(jnp.float32).sum() + params["bias"], ({}, {})

        def statistics(self):
            return {}

    kernels = []
    for dtype in ("float32", "bfloat16"):
        config = OptimizerConfig(warmup=1, learning_rate=2e-4, end_factor=1.0, weight_decay=0.0, mu_dtype=dtype)
        optimizer = make_optimizer(config, 50)
        state = init_state(Wide(), optimizer, 0, dtype)
        step = jax.jit(make_step(Wide(), optimizer, 0.9, 0))
        for _ in range(50):
            state, _ = step(state, BATCH)
        kernels.append(np.asarray(state["params"]["kernel"].astype(jnp.float32)))
    few = {path_name(path) for path, leaf in jax.tree_util.tree_leaves_with_path(state) if leaf.dtype == jnp.bfloat16}
    assert few and all(name.startswith("params/") or "/mu/" in name for name in few)
    # A step of 2e-4 is less than half of bfloat16's last digit below 1, 0.0039: rounded to the nearest nothing would ever move.
    assert len(set(kernels[1].tolist())) > 1
    np.testing.assert_allclose(kernels[1].mean(), kernels[0].mean(), atol=2e-4)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_step_is_a_pure_function_of_state_and_batch():
    states, told, step = run(4)
    again, metrics = step(jax.tree.map(jnp.copy, states[3]), BATCH)
    assert_equal((again, metrics), (states[4], told[3]))


def test_each_step_draws_something_else_and_each_seed_too():
    drawn = [float(told["drawn"]) for seed in (0, 1) for told in run(5, seed=seed)[1]]
    assert len(set(drawn)) == 10


def test_the_state_counts_its_steps_and_starts_with_the_average_at_the_weights():
    states, _, _ = run(3)
    assert [int(state["step"]) for state in states] == [0, 1, 2, 3]
    assert_equal(states[0]["ema"], states[0]["params"])


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_of_weights_follows_them_with_the_decay_once_there_are_steps(decay):
    states, _, _ = run(12, ema_decay=decay)
    average = np.asarray(states[0]["ema"]["kernel"], np.float64)
    for n, state in enumerate(states[1:]):
        keep = min(decay, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * np.asarray(state["params"]["kernel"])
    np.testing.assert_allclose(states[-1]["ema"]["kernel"], average, rtol=1e-5)


def test_statistics_are_averaged_over_steps():
    states, _, _ = run(6)
    keep = np.prod([min(STATISTICS_DECAY, (1 + n) / (10 + n)) for n in range(6)])
    np.testing.assert_allclose(states[-1]["statistics"]["mean"], BATCH["x"].mean() * (1 - keep), rtol=1e-5)


def test_the_gradient_norm_that_is_told_is_the_one_before_clipping():
    states, told, _ = run(1)
    gradients = jax.grad(lambda params: Line().loss(params, BATCH, jax.random.key(0))[0])(states[0]["params"])
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(gradients)))
    np.testing.assert_allclose(told[0]["grad_norm"], norm, rtol=1e-5)
    assert norm > 1


def test_the_rate_warms_up_from_zero_and_decays_to_its_end():
    optimizer = make_optimizer(OptimizerConfig(warmup=4, learning_rate=1.0, end_factor=0.1, weight_decay=0.0), 20)
    params = {"kernel": jnp.zeros(1)}
    state, moved = optimizer.init(params), []
    for _ in range(21):
        update, state = optimizer.update({"kernel": jnp.ones(1)}, state, params)
        moved.append(-float(update["kernel"][0]))
    np.testing.assert_allclose([moved[0], moved[4], moved[20]], [0.0, 1.0, 0.1], rtol=1e-4)
    assert moved[:5] == sorted(moved[:5]) and moved[4:] == sorted(moved[4:], reverse=True)


def test_only_matrices_decay():
    optimizer = make_optimizer(OptimizerConfig(warmup=1, weight_decay=0.5), 20)
    params = {"kernel": jnp.ones(2), "embedding": jnp.ones(2), "bias": jnp.ones(2), "q_scale": jnp.ones(2)}
    state, zeros = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
        updates, state = optimizer.update(zeros, state, params)
    assert {name for name, update in updates.items() if (update != 0).any()} == {"kernel", "embedding"}
    assert (updates["kernel"] < 0).all()


def test_wide_matrices_learn_slower_as_the_base_width_says():
    class Wide:
        width, of_width = 64, ("up/kernel",)

    params = {"up": {"kernel": jnp.ones((2, 2))}, "embed": {"kernel": jnp.ones((2, 2))}}
    gradients = jax.tree.map(jnp.ones_like, params)

    def moved(config):
        optimizer = make_optimizer(config, 20, Wide())
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradients, state, params)
        return [float(updates[name]["kernel"][0, 0]) for name in ("up", "embed")]

    up, embed = moved(OptimizerConfig(warmup=1, base_width=16))
    assert up == pytest.approx(embed / 4) and embed < 0
    assert moved(OptimizerConfig(warmup=1))[0] == pytest.approx(embed)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_shorter_than_its_warm_up_still_moves(steps):
    optimizer = make_optimizer(OptimizerConfig(warmup=40), steps)
    params = {"kernel": jnp.zeros(1)}
    updates, _ = optimizer.update({"kernel": jnp.ones(1)}, optimizer.init(params), params)
    assert np.isfinite(updates["kernel"]).all()

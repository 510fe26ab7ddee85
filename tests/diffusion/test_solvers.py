"""Solvers end where diffusers' do and where a known solution does, each at its own order, token by token."""

import pathlib
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.diffusion.solvers import SOLVERS, SolverName, euler, heun, noise_schedule, sde_dpm_solver, unipc

MEAN, DEVIATION = 0.7, 0.4  # of the normal distribution whose flow is known


@pytest.fixture(scope="module")
def golden():
    """What make_golden.py wrote."""
    with np.load(pathlib.Path(__file__).with_name("golden") / "solvers.npz") as arrays:
        return dict(arrays)


def normals(like, seed=0):
    """A `noise` argument that draws for arrays like `like`."""
    return lambda step: jax.random.normal(jax.random.fold_in(jax.random.key(seed), step), like.shape)


def solve(solver, velocity, start, levels, seed=0):
    """A solver under jit, with a velocity that needs no memory."""
    forgetful = lambda x, t, memory: (velocity(x, t), memory)
    run = jax.jit(lambda start, levels: SOLVERS[solver](forgetful, start, levels, noise=normals(start, seed)))
    return np.asarray(run(jnp.asarray(start), jnp.asarray(levels)))


def to_normal(x, t):
    """The velocity of the flow to a normal distribution of MEAN and DEVIATION: `E[eps - x_0 | x_t]`."""
    t = t[..., None]
    variance = jnp.square((1 - t) * DEVIATION) + jnp.square(t)
    return (t - (1 - t) * DEVIATION**2) / variance * (x - (1 - t) * MEAN) - MEAN


def bent(x, t):
    """A velocity with no solution in closed form."""
    return jnp.sin(2.0 * x + 3.0 * t[..., None]) + 0.3 * x - 0.5


@pytest.mark.parametrize("steps", [2, 7, 30])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_ends_where_that_of_diffusers_does(solver, steps, golden):
    run = lambda start, levels: SOLVERS[solver](
        lambda x, t, memory: (bent(x, t), memory), start, levels, noise=lambda step: jnp.asarray(golden["noise"])[step]
    )
    found = jax.jit(run)(golden["start"], golden[f"{solver}/{steps}/levels"])
    np.testing.assert_allclose(found, golden[f"{solver}/{steps}/end"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [2, 7, 30])
def test_levels_are_those_of_the_flow_matching_schedule(steps, golden):
    np.testing.assert_allclose(noise_schedule(steps, 5.0), golden[f"euler/{steps}/levels"], atol=1e-6)


def rms_error(solver, levels):
    """Of the flow to a normal distribution, from where it passes the first level to where it passes the last."""
    passes = lambda t: (1 - t) * MEAN + np.sqrt(np.square((1 - t) * DEVIATION) + np.square(t)) * normal
    normal = np.random.default_rng(0).normal(size=(16, 1)).astype(np.float32)
    return np.sqrt(np.square(solve(solver, to_normal, passes(levels[0]), levels) - passes(levels[-1])).mean())


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpm++", 2), ("unipc", 3)])
def test_the_error_falls_at_the_order_of_the_method(solver, order):
    """Between levels where log alpha / sigma is finite; the corrector of UniPC of order 2 has one order more than its predictor."""
    errors = [rms_error(solver, np.linspace(0.9, 0.1, steps + 1, dtype=np.float32)) for steps in (32, 64, 128)]
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / np.array(errors[1:])), order, atol=0.25)


@pytest.mark.parametrize("solver", ["heun", "dpm++", "unipc"])
def test_the_whole_way_from_noise_a_second_order_solver_is_nearer_than_euler(solver):
    assert rms_error(solver, noise_schedule(64)) < rms_error("euler", noise_schedule(64)) / 5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (2, 3.0), (7, 1.0)])
def test_the_straight_flow_to_one_clip_ends_at_the_clip(solver, steps, shift):
    clean, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    found = solve(solver, lambda x, t: (x - clean) / jnp.maximum(t, 1e-6)[..., None], noise, noise_schedule(steps, shift))
    np.testing.assert_allclose(found, clean, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_tokens_of_one_row_each_follow_their_own_levels(solver):
    start = jax.random.normal(jax.random.key(0), (1, 4, 3))
    shift = jnp.array([[1.0, 5.0, 2.0, 1.0]])
    levels = noise_schedule(6, shift) * jnp.array([[1.0, 1.0, 1.0, 0.0]])  # the last token is known
    together = solve(solver, bent, start, levels)
    np.testing.assert_array_equal(together[0, 3], start[0, 3])
    for token in range(3):  # alone, but in a row of the same shape, which draws the same noise
        alone = solve(solver, bent, start, noise_schedule(6, float(shift[0, token])))
        np.testing.assert_allclose(together[0, token], alone[0, token], atol=2e-6)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "sde-dpm++"])
def test_a_token_may_wait_at_the_start_and_at_the_end(solver):
    start = jax.random.normal(jax.random.key(0), (1, 1, 3))
    own = noise_schedule(4)
    waiting = np.concatenate([[1.0, 1.0], own, [0.0, 0.0]]).astype(np.float32)[:, None, None]
    np.testing.assert_allclose(solve(solver, bent, start, waiting), solve(solver, bent, start, own), atol=1e-6)


def test_the_stochastic_solver_ends_in_the_distribution_of_the_data_whatever_its_noise():
    start = jax.random.normal(jax.random.key(0), (4000, 1))
    found = [solve("sde-dpm++", to_normal, start, noise_schedule(100), seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(np.corrcoef(found[0][:, 0], found[2][:, 0])[0, 1]) < 0.1  # the start is forgotten
    for each in found[1:]:
        np.testing.assert_allclose((each.mean(), each.std()), (MEAN, DEVIATION), atol=0.02)


def test_the_stochastic_solver_asks_for_noise():
    with pytest.raises(ValueError, match="noise"):
        sde_dpm_solver(lambda x, t, memory: (x, memory), jnp.ones((1, 1)), noise_schedule(2))


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_memory_of_one_call_is_given_to_the_next(solver):
    calls = []

    def velocity(x, t, memory):
        jax.debug.callback(lambda number: calls.append(int(number)), memory)
        return x, memory + 1

    SOLVERS[solver](velocity, jnp.ones((2, 1)), noise_schedule(4), jnp.array(0), lambda step: jnp.zeros((2, 1)))
    jax.effects_barrier()
    assert sorted(calls) == list(range(7 if solver == "heun" else 4))


@pytest.mark.parametrize("solver", [euler, heun, unipc])
def test_the_velocity_is_never_asked_for_at_level_zero(solver):
    asked = []

    def velocity(x, t, memory):
        jax.debug.callback(lambda level: asked.append(float(level)), t)
        return x, memory

    solver(velocity, jnp.ones((1, 1)), noise_schedule(4))
    jax.effects_barrier()
    assert min(asked) > 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_fall_from_one_to_zero(shift):
    levels = noise_schedule(10, shift)
    assert levels.shape == (11,) and levels[0] == 1 and levels[-1] == 0 and (np.diff(levels) < 0).all()


def test_every_name_that_a_config_takes_has_its_solver():
    assert set(typing.get_args(SolverName)) == set(SOLVERS)

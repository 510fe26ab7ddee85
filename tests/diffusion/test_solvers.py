"""Solvers find the known solution of a linear ODE, each at its own order, and the flow of one clip exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.diffusion.solvers import euler, heun, noise_schedule


def error_of(solver, steps):
    """Of dx/dt = x from t = 1 to 0, whose solution is x(0) = x(1) / e."""
    found = solver(lambda x, t: x, jnp.ones(1), noise_schedule(steps, 1.0))
    return float(jnp.abs(found - jnp.exp(-1.0))[0])


# Heun's last step is Euler's, of a size that shrinks with the steps: its square is of second order too.
@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_the_error_falls_at_the_order_of_the_method(solver, order):
    errors = [error_of(solver, steps) for steps in (8, 16, 32)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.25)


@pytest.mark.parametrize("solver", [euler, heun])
@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (2, 3.0), (7, 1.0)])
def test_the_straight_flow_to_one_clip_ends_at_the_clip(solver, steps, shift):
    clean, noise = jax.random.normal(jax.random.key(0), (2, 5))
    found = solver(lambda x, t: (x - clean) / jnp.maximum(t, 1e-6), noise, noise_schedule(steps, shift))
    np.testing.assert_allclose(found, clean, atol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_fall_from_one_to_zero(shift):
    levels = noise_schedule(10, shift)
    assert levels.shape == (11,) and levels[0] == 1 and levels[-1] == 0 and (np.diff(levels) < 0).all()


def test_the_velocity_is_never_asked_for_at_level_zero():
    asked = []
    heun(lambda x, t: jax.debug.callback(lambda level: asked.append(float(level)), t) or x, jnp.ones(1), noise_schedule(4, 1.0))
    jax.effects_barrier()
    assert len(asked) == 2 * 4 - 1 and min(asked) > 0

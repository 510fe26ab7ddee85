"""Solvers of the probability-flow ODE, from noise (t = 1) to clean (t = 0)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from videodit.diffusion.process import shift_noise


def noise_schedule(steps: int, shift: float) -> np.ndarray:
    """float32 `[steps + 1]`: levels from 1 down to 0, evenly spaced, then shifted towards noise."""
    return np.asarray(shift_noise(np.linspace(1.0, 0.0, steps + 1, dtype=np.float32), shift), np.float32)


def heun(velocity: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, levels: np.ndarray) -> jax.Array:
    """Integrates `dx/dt = velocity(x, t)` along `levels` by Heun's second-order method; the last step, to t = 0, is Euler's.

    Karras et al., "Elucidating the Design Space" (2022), algorithm 1 without churn. Costs `2 * steps - 1` evaluations.
    """
    levels = jnp.asarray(levels)

    def step(x, pair):
        t, t_next = pair
        slope = velocity(x, t)
        guess = x + (t_next - t) * slope
        return x + (t_next - t) * 0.5 * (slope + velocity(guess, t_next)), None

    x, _ = jax.lax.scan(step, start, (levels[:-2], levels[1:-1]))
    return x + (levels[-1] - levels[-2]) * velocity(x, levels[-2])


def euler(velocity: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, levels: np.ndarray) -> jax.Array:
    """Integrates `dx/dt = velocity(x, t)` along `levels` by Euler's method: one evaluation a step."""
    levels = jnp.asarray(levels)

    def step(x, pair):
        t, t_next = pair
        return x + (t_next - t) * velocity(x, t), None

    return jax.lax.scan(step, start, (levels[:-1], levels[1:]))[0]

"""Solvers of the flow from noise (t = 1) to clean (t = 0), on packed rows whose tokens may all be at levels of their own.

Every solver is `solver(velocity, start, levels, memory=None, noise=None) -> x`:

- `velocity(x, level, memory) -> (velocity, memory)` is asked at each step; `memory` is any pytree that it wants back at its next call.
- `start` is `[..., P]`, `levels` is `[steps + 1, ...]`: each token's noise level along the way, falling, or `[steps + 1]` for all tokens.
  A token whose level stays is left as it is, to the bit: known tokens have level 0 throughout. Different samples may fall differently.
- `noise(step)` gives standard normal numbers like `start`; only the stochastic solvers call it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from videodit.diffusion.shift import shift_noise

Velocity = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
Noise = Callable[[jax.Array], jax.Array]
SolverName = Literal["euler", "heun", "dpm++", "unipc", "sde-dpm++"]
_NEAREST = 1e-6  # how near to 0 and 1 a level comes where its logarithm is taken


class Solver(Protocol):
    """Integrates a flow along `levels`; see the head of this file."""

    def __call__(
        self, velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None
    ) -> jax.Array: ...


def noise_schedule(steps: int, shift: jax.Array | float = 1.0) -> jax.Array:
    """float32 `[steps + 1, *shape of shift]`: levels from 1 down to 0, evenly spaced, then shifted towards noise."""
    even = np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)
    return shift_noise(even.reshape(-1, *(1,) * np.ndim(shift)), shift)


def euler(velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None) -> jax.Array:
    """Euler's method, first order: one evaluation a step."""

    def step(carry, pair):
        x, memory = carry
        t, t_next = pair
        slope, memory = velocity(x, t, memory)
        return (x + _over_channels(t_next - t) * slope, memory), None

    levels = jnp.asarray(levels)
    return jax.lax.scan(step, (start, memory), (levels[:-1], levels[1:]))[0][0]


def heun(velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None) -> jax.Array:
    """Heun's second-order method; a step to level 0 is Euler's. Two evaluations a step, one in the last.

    Karras et al., "Elucidating the Design Space" (2022), algorithm 1 without churn.
    """
    levels = jnp.asarray(levels)

    def step(carry, pair):
        x, memory = carry
        t, t_next = pair
        slope, memory = velocity(x, t, memory)
        change = _over_channels(t_next - t)
        slope_next, memory = velocity(x + change * slope, t_next, memory)
        slope_next = jnp.where(_over_channels(t_next) > 0, slope_next, slope)
        return (x + change * 0.5 * (slope + slope_next), memory), None

    carry, _ = jax.lax.scan(step, (start, memory), (levels[:-2], levels[1:-1]))
    return euler(velocity, carry[0], levels[-2:], carry[1])


def dpm_solver(velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None) -> jax.Array:
    """DPM-Solver++(2M), second order, one evaluation a step: Lu et al., "DPM-Solver++" (2022), algorithm 2.

    With alpha = 1 - t and sigma = t its update is a step of Euler's towards a clean prediction that is extrapolated from the last two.
    A token's first step and its step to level 0 are of first order.
    """

    def step(carry, window):
        x, clean_before, memory = carry
        t_before, t, t_next = window
        slope, memory = velocity(x, t, memory)
        clean = x - _over_channels(t) * slope
        ahead = _ahead(clean, clean_before, t_before, t, t_next)
        return (_towards(ahead, x, t, t_next), clean, memory), None

    return jax.lax.scan(step, (start, start, memory), _windows(levels)[1:])[0][0]


def sde_dpm_solver(velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None) -> jax.Array:
    """SDE-DPM-Solver++(2M): `dpm_solver` on the reverse diffusion SDE, new noise in every step but the one to level 0.

    Lu et al., "DPM-Solver++" (2022). Each step forgets a part of the errors made before it.
    """
    if noise is None:
        raise ValueError("sde_dpm_solver draws noise: give it noise(step)")

    def step(carry, window):
        x, clean_before, memory = carry
        number, t_before, t, t_next = window
        slope, memory = velocity(x, t, memory)
        clean = x - _over_channels(t) * slope
        ahead = _ahead(clean, clean_before, t_before, t, t_next)
        decay = _share(t_next * (1 - t), t * (1 - t_next))  # exp(-h), h the step in log alpha / sigma
        kept, added = _share(t_next, t) * decay, (1 - t_next) * (1 - jnp.square(decay))
        fresh = t_next * jnp.sqrt(jnp.maximum(1 - jnp.square(decay), 0.0))
        moved = _over_channels(kept) * x + _over_channels(added) * ahead + _over_channels(fresh) * noise(number)
        return (jnp.where(_over_channels(t_next < t), moved, x), clean, memory), None

    steps = jnp.arange(len(levels) - 1)
    return jax.lax.scan(step, (start, start, memory), (steps, *_windows(levels)[1:]))[0][0]


def unipc(velocity: Velocity, start: jax.Array, levels: jax.Array, memory: Any = None, noise: Noise | None = None) -> jax.Array:
    """UniPC of order 2 with B(h) = e^h - 1 ("bh2"), one evaluation a step: Zhao et al., "UniPC" (2023).

    The predictor is that of `dpm_solver`; each evaluation also corrects the point at which it was made, before the next step is taken
    from there.
    """

    def step(carry, window):
        x, x_before, clean_before, clean_long_before, memory = carry
        t_long_before, t_before, t, t_next = window
        slope, memory = velocity(x, t, memory)
        clean = x - _over_channels(t) * slope
        old, new = _corrector_weights(t_long_before, t_before, t)
        change = _over_channels(old) * (clean_before - clean_long_before) + _over_channels(new) * (clean - clean_before)
        x = _towards(clean_before + change, x_before, t_before, t)
        ahead = _ahead(clean, clean_before, t_before, t, t_next)
        return (_towards(ahead, x, t, t_next), x, clean, clean_before, memory), None

    return jax.lax.scan(step, (start, start, start, start, memory), _windows(levels))[0][0]


SOLVERS: Mapping[SolverName, Solver] = {
    "euler": euler,
    "heun": heun,
    "dpm++": dpm_solver,
    "unipc": unipc,
    "sde-dpm++": sde_dpm_solver,
}


def _over_channels(level: jax.Array) -> jax.Array:
    return level[..., None]


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """`part / whole`, 0 where `whole` is 0."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), 0.0)


def _windows(levels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The levels two steps before, one step before, at and after each step. Before the first step they stay where they begin."""
    levels = jnp.asarray(levels)
    padded = jnp.concatenate([levels[:1], levels[:1], levels])
    return padded[:-3], padded[1:-2], padded[2:-1], padded[3:]


def _towards(clean: jax.Array, x: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
    """`(sigma' / sigma) x - alpha' (e^-h - 1) clean` of exponential integrators, which flow turns into a step along a straight line."""
    return x + _over_channels(_share(t_next - t, t)) * (x - clean)


def _log_ratio(t: jax.Array) -> jax.Array:
    """log alpha / sigma, finite at both ends."""
    t = jnp.clip(t, _NEAREST, 1 - _NEAREST)
    return jnp.log1p(-t) - jnp.log(t)


def _step_ratio(t_before: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
    """A step over the one before it, in log alpha / sigma: 0, which makes a step first order, where there was none or it ends at 0."""
    ratio = _share(_log_ratio(t_next) - _log_ratio(t), _log_ratio(t) - _log_ratio(t_before))
    return jnp.where(t_next > 0, ratio, 0.0)


def _ahead(clean: jax.Array, clean_before: jax.Array, t_before: jax.Array, t: jax.Array, t_next: jax.Array) -> jax.Array:
    """The clean prediction half a step ahead, on the line through the last two."""
    return clean + 0.5 * _over_channels(_step_ratio(t_before, t, t_next)) * (clean - clean_before)


def _corrector_weights(t_long_before: jax.Array, t_before: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the last two differences of clean predictions weigh in the correction of the step from `t_before` to `t`.

    Where that step is `r` times the one before it, they solve `old / r + new = b1` and `new - old / r^2 = b2` (UniPC, theorem 3.1);
    of a token's first step there is only `new`, which is 1/2 then.
    """
    ratio = _step_ratio(t_long_before, t_before, t)
    first, second = _moments(_log_ratio(t_before) - _log_ratio(t))
    rest = (first - second) / (1 + ratio)  # old / r^2
    return rest * jnp.square(ratio), jnp.where(ratio > 0, second + rest, 0.5)


def _moments(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`b_k = k! phi_{k+1}(z) z / (e^z - 1)` of k = 1 and 2, by their series about 0, where differences would lose float32's digits."""
    near = jnp.abs(z) < 0.3
    safe = jnp.where(near, 1.0, z)
    grown = jnp.expm1(safe)
    first = jnp.where(near, 1 / 2 - z / 12 + z**3 / 720, 1 / safe - 1 / grown)
    second = jnp.where(near, 1 / 3 - z / 12 + z**2 / 360 + z**3 / 720, 2 / safe**2 - (2 / safe + 1) / grown)
    return first, second

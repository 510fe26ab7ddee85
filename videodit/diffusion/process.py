"""Rectified flow on packed rows: how clean tokens become noisy, and what a network is asked to predict.

`x_t = (1 - t) x_0 + t eps`, t from 0 (clean) to 1 (noise), a level for every token. Liu et al., "Flow Straight and Fast" (2022);
Lipman et al., "Flow Matching" (2022). No network lives here: a network is a function that is given.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from videodit.core.errors import UserError

LEAST_NOISE = 0.02  # where a clean-patch prediction is turned into a velocity, t is kept from 0


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """How noise levels are drawn and what is predicted.

    `noise_mean`, `noise_std`: of the logit-normal draw (Esser et al., 2024, section 3.1). `shift` >= 1 moves levels towards noise:
    `t' = s t / (1 + (s - 1) t)` (same, section 5.3.2). `prediction` is "velocity" (eps - x_0) or "clean" (x_0, with the loss taken on
    the velocity that follows from it; Li and He, 2025).
    `first_frame_odds`: the share of videos whose first latent frame is given clean, as in image-to-video.
    """

    noise_mean: float = 0.0
    noise_std: float = 1.0
    shift: float = 1.0
    prediction: str = "velocity"
    first_frame_odds: float = 0.0

    def __post_init__(self):
        if self.prediction not in ("velocity", "clean"):
            raise UserError(f"process.prediction={self.prediction!r}: must be 'velocity' or 'clean'")
        if self.shift < 1:
            raise UserError(f"process.shift={self.shift}: must be 1 or more")


def shift_noise(level: jax.Array, shift: float) -> jax.Array:
    """Moves noise levels in [0, 1] towards 1 by `shift`; the ends stay."""
    return shift * level / (1 + (shift - 1) * level)


def draw_noise_levels(key: jax.Array, shape: tuple[int, ...], config: ProcessConfig) -> jax.Array:
    """Training noise levels in (0, 1), one for each of `shape`."""
    normal = config.noise_mean + config.noise_std * jax.random.normal(key, shape)
    return shift_noise(jax.nn.sigmoid(normal), config.shift)


def corrupt(clean: jax.Array, noise: jax.Array, level: jax.Array) -> jax.Array:
    """`x_t` for tokens `[..., L, P]` at levels `[..., L]`."""
    t = level[..., None]
    return (1 - t) * clean + t * noise


def to_velocity(prediction: jax.Array, noised: jax.Array, level: jax.Array, config: ProcessConfig) -> jax.Array:
    """What a network predicted -> velocity `eps - x_0`, for tokens `[..., L, P]` at levels `[..., L]`."""
    if config.prediction == "velocity":
        return prediction
    return (noised - prediction) / jnp.maximum(level, LEAST_NOISE)[..., None]


def flow_loss(velocity: jax.Array, clean: jax.Array, noise: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared velocity error summed over the `counted` tokens and its count, to be divided by whoever has summed all rows."""
    error = jnp.square(velocity - (noise - clean)).mean(axis=-1)
    return (error * counted).sum(), counted.sum()

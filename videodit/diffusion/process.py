"""Rectified flow on packed rows: how clean tokens become noisy, what a network is asked to predict, and what an error weighs.

`x_t = (1 - t) x_0 + t eps`, t from 0 (clean) to 1 (noise), a level for every token. Liu et al., "Flow Straight and Fast" (2022);
Lipman et al., "Flow Matching" (2022). No network lives here: a network is a function that is given.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.core.segments import spread
from videodit.diffusion.known import KnownConfig
from videodit.diffusion.samples import sum_over_samples
from videodit.diffusion.shift import ShiftConfig, check_shift, shift_noise, shift_of

LEAST = 0.02  # where a prediction of the clean patch or the noise is turned into a velocity, t and 1 - t are kept from 0


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """How noise levels are drawn, what is predicted and how errors are weighed. Levels run from 0 (clean) to 1 (noise).

    `draw`: "logit-normal", the sigmoid of a normal of `noise_mean` and `noise_std` (Esser et al., 2024, section 3.1), or "uniform".
    `stratified`: the clips of a batch draw from as many equal shares of the distribution, one each, so that every batch sees all levels
    (CogVideoX, 2024, "explicit uniform sampling"). `shift` >= 1 moves levels towards noise; a section makes it depend on a clip's size.
    `prediction`: "velocity" (eps - x_0), "clean" (x_0; Li and He, 2025) or "noise" (eps); the loss is on the velocity that follows.
    `weight`: "flow" (1 at every level) or "min-snr" with `min_snr_gamma` (see `level_weight`).
    `balance`: a clip of n noised tokens has the weight n ** (1 - balance): at 0 every token counts the same and long clips drown
    images; at 1 every clip does. `known`: what of a clip is given clean.
    """

    draw: Literal["logit-normal", "uniform"] = "logit-normal"
    noise_mean: float = 0.0
    noise_std: float = 1.0
    stratified: bool = False
    shift: ShiftConfig | float = 1.0
    prediction: Literal["velocity", "clean", "noise"] = "velocity"
    weight: Literal["flow", "min-snr"] = "flow"
    min_snr_gamma: float = 5.0
    balance: float = 0.0
    known: KnownConfig = field(default_factory=KnownConfig)

    def __post_init__(self):
        check_shift(self.shift, "process.shift")
        for name in ("noise_std", "min_snr_gamma"):
            if getattr(self, name) <= 0:
                raise UserError(f"process.{name}={getattr(self, name)}: must be more than 0")
        if not 0 <= self.balance <= 1:
            raise UserError(f"process.balance={self.balance}: must be from 0 to 1")


def draw_noise_levels(key: jax.Array, segment_ids_BxL: jax.Array, extent_BxLx3: jax.Array, config: ProcessConfig) -> jax.Array:
    """Training noise levels in [0, 1], one a sample, spread over its tokens `[B, L]`; 0 at padding. A row's ids are 1 to their number."""
    if config.stratified:
        share = _stratified(key, segment_ids_BxL)
        level = share if config.draw == "uniform" else _logit_normal(jax.scipy.special.ndtri(share), config)
    elif config.draw == "uniform":
        level = jax.random.uniform(key, segment_ids_BxL.shape)
    else:
        level = _logit_normal(jax.random.normal(key, segment_ids_BxL.shape), config)
    return shift_noise(spread(level, segment_ids_BxL), shift_of(config.shift, extent_BxLx3))


def _logit_normal(normal: jax.Array, config: ProcessConfig) -> jax.Array:
    return jax.nn.sigmoid(config.noise_mean + config.noise_std * normal)


def _stratified(key: jax.Array, segment_ids_BxL: jax.Array) -> jax.Array:
    """`[B, L]` numbers in [0, 1) for ids 1 to L: the k-th of n samples lies in [k, k + 1) / n, all of them turned by one random offset.

    The offset makes every sample's own draw uniform: no place in a batch owns a range of levels.
    """
    offset_key, place_key = jax.random.split(key)
    samples = segment_ids_BxL.max(axis=1)
    number = (jnp.cumsum(samples) - samples)[:, None] + jnp.arange(segment_ids_BxL.shape[1])
    place = (number + jax.random.uniform(place_key, segment_ids_BxL.shape)) / jnp.maximum(samples.sum(), 1)
    return (place + jax.random.uniform(offset_key)) % 1.0


def corrupt(clean: jax.Array, noise: jax.Array, level: jax.Array) -> jax.Array:
    """`x_t` for tokens `[..., L, P]` at levels `[..., L]`."""
    t = level[..., None]
    return (1 - t) * clean + t * noise


def to_velocity(prediction: jax.Array, noised: jax.Array, level: jax.Array, config: ProcessConfig) -> jax.Array:
    """What a network predicted -> velocity `eps - x_0`, for tokens `[..., L, P]` at levels `[..., L]`.

    From `x_t = x_0 + t v = eps - (1 - t) v`. A clean patch says nothing of the velocity at t = 0, noise nothing at t = 1: the
    divisors `t` and `1 - t` are at least 0.02.
    """
    if config.prediction == "velocity":
        return prediction
    if config.prediction == "clean":
        return (noised - prediction) / jnp.maximum(level, LEAST)[..., None]
    return (prediction - noised) / jnp.maximum(1 - level, LEAST)[..., None]


def level_weight(level: jax.Array, config: ProcessConfig) -> jax.Array:
    """What a squared velocity error weighs at each noise level, of the shape of `level`.

    "min-snr" is Hang et al., "Efficient Diffusion Training via Min-SNR Weighting" (2023): a squared error of x_0 weighs min(SNR, gamma).
    Rectified flow has `SNR = ((1 - t) / t)^2`, and as `x_0 = x_t - t v`, a velocity error `d` is an error `-t d` of x_0. So `d^2` weighs
    `t^2 min(((1 - t) / t)^2, gamma) = min((1 - t)^2, gamma t^2)`: 0 at both ends, most at `t = 1 / (1 + sqrt(gamma))`.
    """
    if config.weight == "flow":
        return jnp.ones_like(level)
    return jnp.minimum(jnp.square(1 - level), config.min_snr_gamma * jnp.square(level))


def flow_loss(
    velocity: jax.Array,
    clean: jax.Array,
    noise: jax.Array,
    level: jax.Array,
    counted: jax.Array,
    segment_ids: jax.Array,
    config: ProcessConfig,
) -> tuple[jax.Array, jax.Array]:
    """Each token's weighted squared velocity error, and its share of what their sum is to be divided by: `[B, L]`, 0 where not `counted`.

    Tokens are `[B, L, P]`, `level`, `counted` and `segment_ids` `[B, L]`. Over any set of tokens the loss is one sum over the other:
    whoever has summed all rows divides. The divisor is of `balance` alone, so that `level_weight` does not cancel.
    """
    error = jnp.square(velocity - (noise - clean)).mean(axis=-1) * level_weight(level, config)
    share = counted.astype(error.dtype)
    if config.balance:
        share *= jnp.maximum(sum_over_samples(share, segment_ids), 1) ** -config.balance
    return error * share, share

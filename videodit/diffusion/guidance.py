"""Guidance: the velocities with and without a prompt become one. All statistics are of one sample, however rows are packed."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.diffusion.samples import sum_over_samples


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Classifier-free guidance and its refinements; each is off at its default.

    `scale`: 1 is the prompt alone, 0 no prompt; Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022), eq. 6 with w = scale - 1.
    `interval`: lowest and highest noise level (0 to 1) at which guidance acts, the prompt alone elsewhere; Kynkäänniemi et al., "Applying
    Guidance in a Limited Interval" (2024).
    `rescale`: from 0 to 1, how far the guided velocity's standard deviation is brought back to that of the prompt's; Lin et al., "Common
    Diffusion Noise Schedules and Sample Steps are Flawed" (2023), section 3.4 (they advise 0.7).
    `parallel`, `limit`, `momentum`: adaptive projected guidance (APG) of Sadat et al., "Eliminating Oversaturation and Artifacts of High
    Guidance Scales" (2024), on the difference of clean predictions. `parallel` is the share kept of its part along the prompt's prediction
    (their eta; they advise 0). `limit` is the largest root mean square it may have, in units of the latents, 0 for none: their norm r over
    the square root of the numbers in a sample, so that it fits clips of every size. `momentum` is the share that is added of the last
    call's (their beta; they advise less than 0).
    """

    scale: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    parallel: float = 1.0
    limit: float = 0.0
    momentum: float = 0.0

    def __post_init__(self):
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise UserError(f"guidance.interval={self.interval}: must be (lowest, highest) noise level within 0 to 1")
        for name in ("rescale", "parallel"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"guidance.{name}={getattr(self, name)}: must be from 0 to 1")
        for name in ("scale", "limit"):
            if getattr(self, name) < 0:
                raise UserError(f"guidance.{name}={getattr(self, name)}: must be 0 or more")
        if not -1 < self.momentum < 1:
            raise UserError(f"guidance.momentum={self.momentum}: must be between -1 and 1")

    @property
    def acts(self) -> bool:
        """Does the velocity without a prompt matter at all?"""
        return self.scale != 1


def start_memory(x: jax.Array, config: GuidanceConfig) -> jax.Array | None:
    """What `guide` is given at its first call: the momentum of the difference, where it has one."""
    return jnp.zeros_like(x) if config.momentum else None


def guide(
    conditional: jax.Array,
    unconditional: jax.Array,
    noised: jax.Array,
    level: jax.Array,
    segment_ids: jax.Array,
    config: GuidanceConfig,
    memory: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """The guided velocity `[B, L, P]` and the memory for the next call.

    `conditional` and `unconditional` are velocities at `noised`, all `[B, L, P]`; `level` and `segment_ids` are `[B, L]`. Tokens at level 0
    (text, padding, known patches) enter no statistic. Raises ValueError where the config has momentum and there is no memory.
    """
    low, high = config.interval
    column = level[..., None]
    acts = (low <= column) & (column <= high)
    if config.parallel == 1 and not config.limit and not config.momentum:
        guided = unconditional + config.scale * (conditional - unconditional)
    else:
        update, new_memory = _projected(conditional, unconditional, noised, level, segment_ids, config, memory)
        memory = None if memory is None else jnp.where(acts, new_memory, memory)
        guided = conditional + (config.scale - 1) * update
    if config.rescale:
        share = _deviation(conditional, level, segment_ids) / jnp.maximum(_deviation(guided, level, segment_ids), 1e-12)
        guided = guided * (config.rescale * share + 1 - config.rescale)
    return jnp.where(acts, guided, conditional), memory


def _projected(conditional, unconditional, noised, level, segment_ids, config, memory):
    """The difference of velocities as projected guidance adds it, and the difference of clean predictions to remember.

    Clean predictions are `x - t v`, so their difference is `-t` times that of the velocities.
    """
    column = level[..., None]
    clean = noised - column * conditional
    difference = column * (unconditional - conditional)
    if config.momentum:
        if memory is None:
            raise ValueError("guidance with momentum needs the memory of its last call: begin with start_memory")
        difference = difference + config.momentum * memory
    remembered = difference
    if config.limit:
        size = jnp.sqrt(_mean(jnp.square(difference), level, segment_ids))
        difference = difference * jnp.minimum(1.0, config.limit / jnp.maximum(size, 1e-12))
    along = _mean(difference * clean, level, segment_ids) / jnp.maximum(_mean(jnp.square(clean), level, segment_ids), 1e-12)
    difference = difference - (1 - config.parallel) * along * clean
    return -difference / jnp.where(column > 0, column, 1.0), remembered


def _mean(values: jax.Array, level: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """`[B, L, 1]`: the mean of each sample's noised tokens `[B, L, P]`."""
    counted = (level > 0).astype(values.dtype)
    total = sum_over_samples(values.mean(axis=-1) * counted, segment_ids)
    return (total / jnp.maximum(sum_over_samples(counted, segment_ids), 1))[..., None]


def _deviation(values: jax.Array, level: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """`[B, L, 1]`: the standard deviation of each sample's noised tokens."""
    centred = values - _mean(values, level, segment_ids)
    return jnp.sqrt(_mean(jnp.square(centred), level, segment_ids))

"""The shift of noise levels towards noise, a number or a function of a clip's size.

A large clip's tokens say much about each other, so that it takes more noise to hide it: Esser et al., "Scaling Rectified Flow
Transformers" (2024), section 5.3.2.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from videodit.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """A shift that grows with a clip as Open-Sora 2.0 (2025) has it.

    `low` at `low_tokens` patch tokens a frame of patches, `high` at `high_tokens`, on a straight line through both but never under 1;
    all of it times the clip's frames of patches to the power `frames_power`, 0.5 as published and 0 for no dependence on length.
    """

    low: float = 1.0
    high: float = 3.0
    low_tokens: int = 256
    high_tokens: int = 4096
    frames_power: float = 0.5

    def __post_init__(self):
        if self.low < 1 or self.high < self.low:
            raise UserError(f"shift.low={self.low}, shift.high={self.high}: must be 1 <= low <= high")
        if not 0 < self.low_tokens < self.high_tokens:
            raise UserError(f"shift.low_tokens={self.low_tokens}, shift.high_tokens={self.high_tokens}: must be 0 < low < high")
        if not 0 <= self.frames_power <= 1:
            raise UserError(f"shift.frames_power={self.frames_power}: must be from 0 to 1")


def check_shift(shift: ShiftConfig | float, name: str) -> None:
    """Raises UserError where the config field `name` holds a number under 1."""
    if not isinstance(shift, ShiftConfig) and shift < 1:
        raise UserError(f"{name}={shift}: must be 1 or more")


def shift_of(shift: ShiftConfig | float, extent_BxLx3: jax.Array) -> jax.Array | float:
    """The shift of each token `[B, L]`, from its clip's `extent` in patches (frames, height, width), or the number that `shift` is."""
    if not isinstance(shift, ShiftConfig):
        return shift
    frames, height, width = jnp.moveaxis(extent_BxLx3, -1, 0)
    share = (height * width - shift.low_tokens) / (shift.high_tokens - shift.low_tokens)
    return jnp.maximum(shift.low + (shift.high - shift.low) * share, 1.0) * jnp.maximum(frames, 1.0) ** shift.frames_power


def shift_noise(level: jax.Array, shift: jax.Array | float) -> jax.Array:
    """`t' = s t / (1 + (s - 1) t)`: moves noise levels in [0, 1] towards 1 by `shift` >= 1; the ends stay."""
    return shift * level / (1 + (shift - 1) * level)

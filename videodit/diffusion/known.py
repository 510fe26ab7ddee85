"""Which patches of a training clip are given clean: the masks by which one model learns to generate, animate, extend, fill in and repaint.

A clip's task is drawn, then its mask: over latent frames of a video, or over a box of space. What is given stays at noise level 0, or near
it, and is not counted in the loss. Masks over frames: Voleti et al., "MCVD" (2022); Zheng et al., "Open-Sora" (2024), of version 1.1.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.core.segments import spread

GENERATE = "generate"
TASKS = (GENERATE, "first", "forward", "backward", "between", "frames", "region")


@dataclass(frozen=True, kw_only=True)
class KnownConfig:
    """What training clips are given of themselves: the share of clips for each task; what the shares leave is given nothing.

    Of a video's latent frames `first` gives the first, `forward` some first, `backward` some last, `between` some at both ends (of a video
    of two frames the first), `frames` each by a chance of its own; an image has one frame and is given none by these. `region` gives
    videos and images all but a box, the same in every frame. At least one patch is always left to make.

    `noise`: what is given has a noise level drawn from 0 to this, for each clip, so that a model forgives what is not quite right in what
    it goes on from (Ho et al., "Cascaded Diffusion Models", 2021, conditioning augmentation). 0: always clean.
    """

    first: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    between: float = 0.0
    frames: float = 0.0
    region: float = 0.0
    noise: float = 0.0

    def __post_init__(self):
        for name, odds in self.odds.items():
            if odds < 0:
                raise UserError(f"process.known.{name}={odds}: must be 0 or more")
        if sum(self.odds.values()) > 1 + 1e-6:
            raise UserError(f"process.known's shares add up to {sum(self.odds.values()):g}, expected 1 or less")
        if not 0 <= self.noise < 1:
            raise UserError(f"process.known.noise={self.noise}: must be from 0 to less than 1")

    @property
    def odds(self) -> dict[str, float]:
        """The share of each task of `TASKS` but `GENERATE`."""
        return {name: getattr(self, name) for name in TASKS[1:]}


# Half of all clips are made from text alone; the rest learn what they may be given, and not to trust it to the last bit: without the noise
# a minute made window by window lost its solids' colours.
EVERY_TASK = KnownConfig(first=0.1, forward=0.1, backward=0.08, between=0.1, frames=0.06, region=0.06, noise=0.2)


def draw_known(
    key: jax.Array, segment_ids_BxL: jax.Array, positions_BxLx3: jax.Array, extent_BxLx3: jax.Array, config: KnownConfig
) -> tuple[jax.Array, jax.Array]:
    """Of patches in packed rows: which are given, bool `[B, L]`, and the task of their clip, an index into `TASKS`, int32 `[B, L]`.

    What it says of text and padding means nothing.
    """
    if not any(config.odds.values()):
        return jnp.zeros_like(segment_ids_BxL, bool), jnp.zeros_like(segment_ids_BxL)
    chosen, start, stop, share, place = (spread(each, segment_ids_BxL) for each in jax.random.uniform(key, (5, *segment_ids_BxL.shape)))
    bounds = jnp.cumsum(jnp.asarray(list(config.odds.values())))
    task = (chosen[..., None] >= bounds).sum(axis=-1) + 1  # beyond the last: generate
    frame, frames = positions_BxLx3[..., 0], extent_BxLx3[..., 0]
    task = jnp.where((task < len(TASKS)) & ((frames > 1) | (task == TASKS.index("region"))), task, 0).astype(jnp.int32)
    up_to = lambda draw, most: (draw * most).astype(jnp.int32)  # 0 to most - 1
    head = 1 + up_to(start, frames - 1)
    left = jnp.where(frames > 2, 1 + up_to(start, frames - 2), 1)
    right = jnp.where(frames > 2, 1 + up_to(stop, frames - left - 1), 0)
    of_frame = _uniform_of_frames(jax.random.fold_in(key, 1), segment_ids_BxL, frame)
    inside = jnp.ones_like(frame, bool)
    for axis, sides in ((1, (start, place)), (2, (stop, share))):
        length = 1 + up_to(sides[0], extent_BxLx3[..., axis])
        first = up_to(sides[1], extent_BxLx3[..., axis] - length + 1)
        at = positions_BxLx3[..., axis]
        inside &= (at >= first) & (at < first + length)
    masks = (
        jnp.zeros_like(inside),
        frame == 0,
        frame < head,
        frame >= frames - head,
        (frame < left) | (frame >= frames - right),
        (of_frame < share) & (frame != up_to(place, frames)),
        ~inside,
    )
    return jnp.select([task == number for number in range(len(TASKS))], masks, False), task


def _uniform_of_frames(key: jax.Array, segment_ids_BxL: jax.Array, frame_BxL: jax.Array) -> jax.Array:
    """Numbers in [0, 1), equal within a clip's frame."""
    clip = jnp.arange(len(segment_ids_BxL))[:, None] * segment_ids_BxL.shape[1] + segment_ids_BxL
    draw = lambda clip, frame: jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, clip), frame))
    return jax.vmap(jax.vmap(draw))(clip, frame_BxL)

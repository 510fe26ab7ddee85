"""What is known of a clip before it is made: every generation task is a canvas, pixels of which some are given."""

from collections.abc import Iterable
import dataclasses
from dataclasses import dataclass

import numpy as np

from videodit.core.errors import UserError
from videodit.training.restore import TrainedVAE

GREY = 127


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """`frames` uint8 `[T, H, W, 3]`; `given` bool `[T, H, W]`, which of its pixels are to stay. The others are where an edit starts from,
    and else what the VAE sees beside those that are given. `history`, bool too: which were generated before, so that they may
    have faults; None: none were. `latents` float32 `[t', H', W', C]`: the first ones, where they are known already and
    not to be encoded again, else NaN."""

    frames: np.ndarray
    given: np.ndarray
    history: np.ndarray | None = None
    latents: np.ndarray | None = None

    def __post_init__(self):
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3 or 0 in self.frames.shape:
            raise UserError(f"a canvas is {self.frames.dtype} {list(self.frames.shape)}, expected uint8 [frames, height, width, 3]")
        if self.given.dtype != bool or self.given.shape != self.frames.shape[:3]:
            raise UserError(
                f"what is given of a canvas is {self.given.dtype} {list(self.given.shape)}, expected bool {list(self.frames.shape[:3])}"
            )


def of_pieces(frames: int, size: tuple[int, int], pieces: Iterable[tuple[int, np.ndarray]]) -> Canvas:
    """A canvas of `frames` frames of `size` (height, width) that is given clips, `(first frame, uint8 [t, H, W, 3])`. Between them the last
    frame before is held, before all of them the first; with none it is grey. Of pieces that overlap the later ones count.

    Raises UserError where a piece lies outside.
    """
    pixels, given = np.full((frames, *size, 3), GREY, np.uint8), np.zeros((frames, *size), bool)
    for first, clip in pieces:
        stop = first + len(clip)
        if first < 0 or stop > frames:
            raise UserError(f"frames {first} to {stop - 1} are given, but there are {frames}: ask for a longer clip, or give fewer")
        pixels[first:stop], given[first:stop] = clip, True
    return held(Canvas(frames=pixels, given=given))


def held(canvas: Canvas) -> Canvas:
    """The canvas with each frame of which nothing is given as the last one before of which something is, or else the first such one."""
    there = np.flatnonzero(canvas.given.any(axis=(1, 2)))
    if not len(there) or len(there) == len(canvas.given):
        return canvas
    nearest = there[np.maximum(0, np.searchsorted(there, np.arange(len(canvas.given)), side="right") - 1)]
    return dataclasses.replace(canvas, frames=canvas.frames[nearest])


def of_clip(frames: np.ndarray, to_make: np.ndarray) -> Canvas:
    """A canvas of a clip, of which `to_make`, bool that broadcasts to `[T, H, W]`, is made anew."""
    return Canvas(frames=frames, given=~np.broadcast_to(to_make, frames.shape[:3]))


def group_of(frame: int, time: int) -> range:
    """The frames that share a latent with `frame`, where the VAE has `time` frames in one: the first frame is alone."""
    if frame == 0:
        return range(1)
    first = (frame - 1) // time * time + 1
    return range(first, first + time)


def pad_to_grid(canvas: Canvas, latents: tuple[int, int, int], stride: tuple[int, int, int]) -> Canvas:
    """The canvas at the size that so many latents decode to: its edges go on, evenly at the sides, at the end in time."""
    wanted = (1 + (latents[0] - 1) * stride[0], *(n * s for n, s in zip(latents[1:], stride[1:])))
    have = canvas.frames.shape[:3]
    before = (0, *((w - h) // 2 for w, h in zip(wanted[1:], have[1:])))
    pads = [(b, w - h - b) for b, w, h in zip(before, wanted, have)]
    padded = {name: np.pad(each, pads, mode="edge") for name in ("given", "history") if (each := getattr(canvas, name)) is not None}
    return dataclasses.replace(canvas, frames=np.pad(canvas.frames, [*pads, (0, 0)], mode="edge"), **padded)


def known_tokens(given: np.ndarray, stride: tuple[int, int, int], patch: tuple[int, int, int]) -> np.ndarray:
    """Which tokens hold nothing but given pixels: bool `[T, H, W]` on the grid -> bool `[T' / pt, H' / ph, W' / pw]`."""
    rows, columns = (side // (s * p) for side, s, p in zip(given.shape[1:], stride[1:], patch[1:]))
    whole = given.reshape(len(given), rows, -1, columns, given.shape[2] // columns).all(axis=(2, 4))
    latents = np.concatenate([whole[:1], whole[1:].reshape(-1, stride[0], rows, columns).all(axis=1)])
    return latents.reshape(-1, patch[0], rows, columns).all(axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of a clip's latents: `latents` float32 `[T', H', W', C]`; of each token, bool `[T' / pt, H' / ph, W' / pw]`, is it
    `known`, and if so, does it hold what was generated before, `history`?"""

    latents: np.ndarray
    known: np.ndarray
    history: np.ndarray


def known_latents(vae: TrainedVAE, patch: tuple[int, int, int], canvas: Canvas, shape: tuple[int, ...]) -> Known:
    """Of a canvas as latents of `shape` `[T', H', W', C]`."""
    stride = vae.model.config.stride
    whole = pad_to_grid(canvas, shape[:3], stride)
    latents = vae.encode(whole.frames[None])[0]
    if canvas.latents is not None:
        first = latents[: len(canvas.latents)]
        np.copyto(first, canvas.latents, where=~np.isnan(canvas.latents))
    known = known_tokens(whole.given, stride, patch)
    history = np.zeros_like(known) if whole.history is None else known & ~known_tokens(~whole.history, stride, patch)
    return Known(latents=latents, known=known, history=history)

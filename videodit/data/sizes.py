"""The size policy: how many frames and how large a clip is trained at. Pure arithmetic.

A clip keeps its own duration, resolution and aspect ratio as far as the token budget allows (NaViT: "Patch n' Pack",
2023, section 2.1). It is only ever scaled down, and cut to the grid of the VAE.
"""

import dataclasses
import math
from typing import NamedTuple

# Timestamps are rounded in containers: a frame that would start this shortly before the end is not there (as in
# `media.decode`).
_ROUNDING_S = 1e-3


class ClipSize(NamedTuple):
    """Frames, height and width in pixels."""

    frames: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizePolicy:
    """What limits the size of a training clip.

    Attributes:
      fps: frames a second that videos are resampled to.
      max_tokens: the most latent tokens a clip may have.
      max_frames: the most frames of a clip, 1 + k * grid[0].
      grid: pixels a latent token spans, (time, height, width): the VAE's compression times the transformer's patch.
      min_side: the fewest pixels of the shorter side. Where the budget would demand fewer, frames go first, as long as
        there is motion left; a clip that was smaller from the start keeps its size.
    """

    fps: float = 8.0
    max_tokens: int = 128
    max_frames: int = 17
    grid: tuple[int, int, int] = (4, 8, 8)
    min_side: int = 16

    def __post_init__(self):
        if self.fps <= 0:
            raise ValueError(f"fps is {self.fps}, expected more than 0")
        if min(self.grid) < 1:
            raise ValueError(f"grid is {self.grid}, expected three positive numbers")
        if self.max_frames < 1 or (self.max_frames - 1) % self.grid[0]:
            raise ValueError(
                f"max_frames is {self.max_frames}, expected 1 + k * {self.grid[0]}, e.g. "
                f"{on_time_grid(max(1, self.max_frames), self.grid[0])}"
            )
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected 1 or more")


def tokens(size: tuple[int, int, int], grid: tuple[int, int, int]) -> int:
    """Returns the number of latent tokens of a clip of (frames, height, width) pixels; the first frame stands alone in time."""
    frames, height, width = size
    return (1 + (frames - 1) // grid[0]) * (height // grid[1]) * (width // grid[2])


def on_time_grid(frames: int, step: int) -> int:
    """Returns the largest 1 + k * `step` that is at most `frames` (which is 1 or more)."""
    return 1 + (frames - 1) // step * step


def resampled_frames(frames: int, fps: float, policy: SizePolicy) -> int:
    """Returns how many frames a file of `frames` at `fps` has at the policy's rate; a still has one.

    Agrees with `media.decode`: frame k is there if time k / policy.fps lies before the end.
    """
    if frames <= 1:
        return 1
    return max(1, math.ceil((frames / fps - _ROUNDING_S) * policy.fps))


def fit(frames: int, height: int, width: int, fps: float, policy: SizePolicy) -> ClipSize:
    """Returns the size at which the first window of a clip is trained: scaled down only as far as the budget demands.

    Args:
      frames, height, width, fps: the clip's own, height and width in upright pixels. 1 frame is a still.

    Returns:
      frames 1 + k * grid[0], sides multiples of the grid, within `max_tokens`, none larger than the clip's own unless
      that is smaller than one token. Each side is off the clip's aspect ratio by less than one token's span, except in
      a strip so long that it would be thinner than one token: there the length gives way. Where the budget cannot hold
      `min_side`, frames are given up down to 1 + grid[0], then `min_side` is.
    """
    count = min(policy.max_frames, on_time_grid(resampled_frames(frames, fps, policy), policy.grid[0]))
    least = min(count, 1 + policy.grid[0])
    while True:
        latent_frames = 1 + (count - 1) // policy.grid[0]
        rows, columns = _fit_area(height, width, policy.max_tokens // latent_frames, policy.grid)
        shorter = min(rows * policy.grid[1], columns * policy.grid[2])
        enough = rows * columns and shorter >= min(
            policy.min_side, _floor(height, policy.grid[1]), _floor(width, policy.grid[2])
        )
        if enough or (count <= least and rows * columns):
            return ClipSize(count, rows * policy.grid[1], columns * policy.grid[2])
        count -= policy.grid[0]


def windows(frames: int, fps: float, policy: SizePolicy, *, max_frames: int | None = None) -> list[tuple[float, int]]:
    """Returns (start in seconds, frames) of the windows that cover a clip, in order, each as long as the policy allows.

    They lie end to end, except the last, which is moved back so far that it ends with the clip: it shares frames with the one
    before it. Where less than half of grid[0] frames would be left for it, there is none, and these are lost; so are those of
    a clip too short for a window that moves.

    Args:
      max_frames: fewer than the policy's, where `fit` gave up frames for size.
    """
    total, step = resampled_frames(frames, fps, policy), policy.grid[0]
    most = min(policy.max_frames, max_frames or policy.max_frames)
    longest = min(most, on_time_grid(total, step))
    if longest == 1 and most > 1:
        return [(0.0, 1)]
    found = [(first, longest) for first in range(0, total - longest + 1, longest)]
    left = total - longest * len(found)
    if longest > 1 and 2 * left >= step:
        count = min(longest, 1 + max(1, math.ceil((left - 1) / step)) * step)
        found.append((total - count, count))
    return [(first / policy.fps, count) for first, count in found]


def _floor(side: int, step: int) -> int:
    return max(step, side // step * step)


def _fit_area(height: int, width: int, area: int, grid: tuple[int, int, int]) -> tuple[int, int]:
    """Returns the (rows, columns) of tokens, of the clip's aspect ratio, with at most `area` tokens."""
    most_rows, most_columns = max(1, height // grid[1]), max(1, width // grid[2])
    if most_rows * most_columns <= area:
        return most_rows, most_columns
    # Real-valued (rows, columns) that fill the budget at the true aspect ratio, then the best of the grid points around
    # it.
    ratio = (height / grid[1]) / (width / grid[2])
    rows, columns = math.sqrt(area * ratio), math.sqrt(area / ratio)
    candidates = [
        (r, c)
        for r in (math.floor(rows), math.ceil(rows))
        for c in (math.floor(columns), math.ceil(columns))
        if 1 <= r <= most_rows and 1 <= c <= most_columns and r * c <= area
    ]
    if not candidates:  # a strip thinner than one token: keep what fits of its length
        return (1, min(area, most_columns)) if rows < columns else (min(area, most_rows), 1)
    return max(candidates, key=lambda rc: (rc[0] * rc[1] / area - 2 * abs(math.log(rc[0] / rc[1] / ratio)), rc))

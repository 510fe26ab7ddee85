"""What a video becomes by bicubic down- and up-sampling in time, height and width: the codec that a VAE has to beat.

Cubic convolution (Keys, 1981, a = -0.5), widened where it shrinks so that nothing aliases, along one axis after another. The small video
is kept in float32, as latents are.
"""

from dataclasses import dataclass
import functools
import math

import numpy as np
from PIL import Image

from videodit.evaluation.quality import psnr_db

Size = tuple[int, int, int]  # frames, height, width

TIME_FACTORS = (1, 2, 4, 8)  # shares of the compression that may be had from time: a still scene wants much, motion little


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A clip that went through a smaller `size`: `clip` is uint8 of its own size again."""

    clip: np.ndarray
    size: Size


def through_size(clip: np.ndarray, size: Size) -> Resampled:
    """Scales uint8 `[T, H, W, 3]` to `size` and back."""
    small = _resize(clip.astype(np.float32), size)
    return Resampled(clip=np.clip(np.round(_resize(small, clip.shape[:3])), 0, 255).astype(np.uint8), size=size)


def through_numbers(clip: np.ndarray, numbers: int) -> Resampled:
    """Scales uint8 `[T, H, W, 3]` to `numbers` numbers or a few more, never fewer unless it has fewer itself, and back.

    How the compression is split between time and space is what suits this very clip: of `TIME_FACTORS` the one with the highest PSNR.
    """
    found = (through_size(clip, size) for size in sizes_of_numbers(clip.shape[:3], numbers))
    return max(found, key=lambda each: psnr_db(each.clip, clip))


def sizes_of_numbers(size: Size, numbers: int) -> list[Size]:
    """The sizes with `numbers` numbers in 3 channels that a clip of `size` may have: one a time factor, of the clip's aspect ratio."""
    frames, height, width = size
    lengths = dict.fromkeys(1 + (frames - 1) // factor for factor in TIME_FACTORS)
    return list(dict.fromkeys((length, *_sides(height, width, numbers / (3 * length))) for length in lengths))


def _sides(height: int, width: int, area: float) -> tuple[int, int]:
    """The smallest (height, width) next to the true aspect ratio with at least `area` pixels; no larger than the clip's own."""
    scale = math.sqrt(area / (height * width))
    if scale >= 1:
        return height, width
    rows, columns = ({min(side, math.floor(side * scale) + more) for more in (0, 1)} for side in (height, width))
    return min(((h, w) for h in rows for w in columns if h * w >= area * (1 - 1e-9)), key=math.prod)


def _resize(video: np.ndarray, size: Size) -> np.ndarray:
    for axis, (old, new) in enumerate(zip(video.shape, size)):
        if old != new:
            video = np.moveaxis(np.tensordot(_weights(old, new), video, axes=(1, axis)), 0, axis)
    return video


@functools.lru_cache(maxsize=256)
def _weights(old: int, new: int) -> np.ndarray:
    """float32 `[new, old]`: what each of `new` samples takes of `old` ones."""
    return np.asarray(Image.fromarray(np.eye(old, dtype=np.float32)).resize((old, new), Image.Resampling.BICUBIC))

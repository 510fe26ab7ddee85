"""Flicker where nothing moves, of clips that have no aligned truth: change of the background, away from solids and their shadows."""

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import binary_dilation

from videodit.evaluation.judge.segment import hue_chroma_saturation, solid_weight

_SOLID = 0.5  # of a pixel, in the colours that are its medians over 3 frames: one frame's noise is no solid
_MARGIN = 0.5  # of the square root of a solid's area: as far as its shadow reaches
_LEAST_MARGIN = 2  # pixels


def background(clip: np.ndarray) -> np.ndarray:
    """Which pixels bool `[H, W]` of uint8 `[T, H, W, 3]` no coloured solid and no shadow comes near in any frame."""
    frames = len(clip)
    around = [np.median(clip[max(0, t - 1) : t + 2], axis=0) for t in range(frames)]
    _, chroma, saturation = hue_chroma_saturation(np.stack(around).astype(np.float32) / 255)
    solid = solid_weight(chroma, saturation) >= _SOLID
    margin = max(_LEAST_MARGIN, round(_MARGIN * float(np.sqrt(solid.sum((1, 2)).max()))))
    near = solid.any(0)
    return ~binary_dilation(near, iterations=margin) if near.any() else ~near


def background_change(clips: Iterable[np.ndarray]) -> dict[str, float | None]:
    """How much the background of clips changes, in grey levels, over all of their background pixels and colours.

    `flicker` is the mean |change| from a frame to the next, `drift` the mean |last frame - first frame|, and `share` the share of pixels
    that are background. Takes uint8 `[T, H, W, 3]`; images do not count, and without anything that counts figures are None. Of a camera
    that stands still both are 0 in true renders: hold them against those of the truth.
    """
    change, drift, pairs, pixels, all_pixels = 0.0, 0.0, 0, 0, 0
    for clip in clips:
        if len(clip) < 2:
            continue
        still = background(clip)
        values = clip[:, still].astype(np.int16)  # [T, n, 3]
        change += float(np.abs(np.diff(values, axis=0)).sum())
        drift += float(np.abs(values[-1] - values[0]).sum())
        pairs += values[1:].size
        pixels += values[0].size
        all_pixels += clip[0].size
    return {
        "flicker": change / pairs if pairs else None,
        "drift": drift / pixels if pixels else None,
        "share": pixels / all_pixels if all_pixels else None,
    }

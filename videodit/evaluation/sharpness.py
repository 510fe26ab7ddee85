"""How sharp edges are, at the truth's own edges or, where nothing is aligned, over all clips; uint8 `[T, H, W, 3]` arrays."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

PERCENTILES = (95.0, 97.5, 99.0)
_STRONG_LEVELS = 24.0  # grey levels a pixel: the outline of a solid, and not the ground's soft squares
_NEAR = (1, 3, 3)  # an edge one pixel off is as sharp
_AROUND = (1, 7, 7)  # pixels over which an edge rises from one side to the other
_CONTRAST_LEVELS = 64.0
_BIN_LEVELS = 0.25


def gradient(clip: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient over space, root mean square over colours, in grey levels a pixel: float32 `[T, H - 1, W - 1]`."""
    pixels = clip.astype(np.float32)
    down, right = np.diff(pixels, axis=1)[:, :, :-1], np.diff(pixels, axis=2)[:, :-1]
    return np.sqrt((down**2 + right**2).mean(-1))


def edge_sharpness(source: np.ndarray, made: np.ndarray) -> float | None:
    """Gradient of `made` over that of `source` at the strong edges of the source: 1 is as sharp, less is blurred.

    Both are the largest gradient within one pixel of the edge, so that an edge which is off by one is no blur; edges are pixels whose
    gradient is 24 grey levels or more. None where the source has no such edge.
    """
    true = gradient(source)
    edges = true >= _STRONG_LEVELS
    if not edges.any():
        return None
    return float(maximum_filter(gradient(made), _NEAR)[edges].sum() / maximum_filter(true, _NEAR)[edges].sum())


def gradient_percentiles(clips: Iterable[np.ndarray], percentiles: Sequence[float] = PERCENTILES) -> list[float] | None:
    """Percentiles of the gradient over all pixels of all clips, in grey levels a pixel, to 0.25; None without clips."""
    counts = np.zeros(int(362 / _BIN_LEVELS) + 1, np.int64)  # 255 * sqrt(2) is the most there can be
    for clip in clips:
        counts += np.bincount((gradient(clip) / _BIN_LEVELS).astype(int).ravel(), minlength=len(counts))
    if not counts.any():
        return None
    share = counts.cumsum() / counts.sum()
    return [float((np.searchsorted(share, each / 100) + 0.5) * _BIN_LEVELS) for each in percentiles]


def edge_width(clips: Iterable[np.ndarray]) -> float | None:
    """Pixels over which edges rise, the mean over all clips: it does not depend on how many edges there are, or how strong they are.

    At a pixel whose gradient is the largest within 7 x 7, where colours span 64 grey levels or more: that span over the gradient. After
    Marziliano et al., "A no-reference perceptual blur metric" (2002). None where there is no such edge.
    """
    total, edges = 0.0, 0
    for clip in clips:
        slope = gradient(clip)
        pixels = clip.astype(np.float32)
        spans = maximum_filter(pixels, (*_AROUND, 1)) - minimum_filter(pixels, (*_AROUND, 1))
        span = np.sqrt((spans**2).mean(-1))[:, :-1, :-1]
        peak = (slope == maximum_filter(slope, _AROUND)) & (span >= _CONTRAST_LEVELS)
        total += float((span[peak] / slope[peak]).sum())
        edges += int(peak.sum())
    return total / edges if edges else None

"""The noise that a clip starts from: white, and at its slow end the same at every size, so that previews are composed as large clips."""

import functools

import numpy as np
import scipy.fft


def start_noise(seed: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """White standard normal noise, float32 `[T, H, W, C]`.

    A frame's noise is a sum of cosines over its height and width whose coefficients are drawn in order of frequency: those that two sizes
    share are the same for one seed. The transform is orthonormal (DCT-II), so noise is white at each size. Frame t is the same in clips of
    any length.
    """
    frames, height, width, channels = shape
    places = _places(height, width)
    noise = np.empty(shape, np.float32)
    for t in range(frames):
        drawn = np.random.default_rng([seed % 2**64, t, channels]).standard_normal((max(height, width) ** 2, channels), np.float32)
        noise[t] = scipy.fft.idctn(drawn[places], axes=(0, 1), norm="ortho")
    return noise


@functools.lru_cache(maxsize=32)
def _places(height: int, width: int) -> np.ndarray:
    """Where frequency (row, column) is in the order of drawing, int `[H, W]`: the square up to a frequency comes before what is beyond."""
    row, column = np.indices((height, width))
    ring = np.maximum(row, column)
    return ring * ring + np.where(column == ring, row, ring + 1 + column)

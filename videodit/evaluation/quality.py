"""How close a clip is to its source: PSNR, SSIM and flicker of uint8 `[T, H, W, 3]` arrays."""

import numpy as np

_PEAK = 255.0
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5  # pixels
_SSIM_LUMINANCE, _SSIM_CONTRAST = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_STILL_BLOCK = 8  # pixels a side
_STILL_LEVELS = 2.0  # a camera's and a codec's own noise stays below


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, over all of their values, in dB; 100 where they are equal."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return float(10 * np.log10(_PEAK**2 / error)) if error else 100.0


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two uint8 `[T, H, W, 3]`: 1 where they are equal, about 0 where they have nothing in common.

    Wang et al., 2004, section III.B: Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03; the mean over frames, colours and
    the windows that lie wholly inside the frame. In a frame thinner than 11 pixels the window is the largest odd one that it holds.
    """
    shorter = min(a.shape[1:3])
    size = min(_SSIM_WINDOW, shorter - (shorter + 1) % 2)
    window = np.exp(-0.5 * np.square((np.arange(size) - size // 2) / _SSIM_SIGMA))
    window /= window.sum()
    return float(np.mean([_frame_ssim(x.astype(np.float64), y.astype(np.float64), window) for x, y in zip(a, b, strict=True)]))


def _frame_ssim(x: np.ndarray, y: np.ndarray, window: np.ndarray) -> float:
    mean_x, mean_y = _windowed(x, window), _windowed(y, window)
    variances = _windowed(x * x + y * y, window) - mean_x**2 - mean_y**2
    covariance = _windowed(x * y, window) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + _SSIM_LUMINANCE) * (2 * covariance + _SSIM_CONTRAST)
    return float((similar / ((mean_x**2 + mean_y**2 + _SSIM_LUMINANCE) * (variances + _SSIM_CONTRAST))).mean())


def _windowed(picture: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Weighted means over the windows that lie wholly inside `[H, W, ...]`."""
    for axis in (0, 1):
        count = picture.shape[axis] - len(window) + 1
        picture = sum(weight * picture.take(range(i, i + count), axis) for i, weight in enumerate(window))
    return picture


def flicker(source: np.ndarray, made: np.ndarray) -> float | None:
    """How much more `made` changes from frame to frame than `source`, where the source stands still, in grey levels; 0 is steady.

    The mean of max(0, |change of made| - |change of source|) over the pixels of still blocks, after Fan et al., "Flicking reduction in all
    intra frame coding" (JVT-E070, 2002): a block of 8 x 8 pixels is still from one frame to the next where it changes by 2 grey levels or
    less on average. Change of what moves is no flicker: blur of it shows in PSNR. None where nothing stands still, as in an image.
    """
    total, still_pixels = 0.0, 0
    for t in range(1, len(source)):
        changed = np.abs(source[t].astype(np.int16) - source[t - 1]).mean(-1)
        still = _blocks_up_to(changed, _STILL_LEVELS)
        excess = np.abs(made[t].astype(np.int16) - made[t - 1]) - np.abs(source[t].astype(np.int16) - source[t - 1])
        total += float((np.maximum(excess, 0).mean(-1) * still).sum())
        still_pixels += int(still.sum())
    return total / still_pixels if still_pixels else None


def _blocks_up_to(values: np.ndarray, most: float) -> np.ndarray:
    """Which pixels of `[H, W]` lie in blocks whose mean is at most `most`; blocks at the right and lower edge may be smaller."""
    starts = [np.arange(0, side, _STILL_BLOCK) for side in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    sides = [np.diff(np.append(start, side)) for start, side in zip(starts, values.shape)]
    still = sums <= most * np.outer(*sides)
    return still.repeat(sides[0], axis=0).repeat(sides[1], axis=1)

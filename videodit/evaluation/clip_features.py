"""What a clip looks like as a row of numbers, for a classifier that tells two sets of clips apart: statistics of pixels, not of meaning."""

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BLOCK = 8  # pixels a side of the blocks of the cosine transform
_PATCH = 3  # frames, rows and columns of the patches
_PATCHES = 2048  # of a clip, at places that are drawn once for its shape
_FOR_COMPONENTS = 128  # patches of a clip that the components are found from
_FAR = 3.0  # deviations of a component from its mean that are rare
_SMOOTH = 6.0  # grey levels of a step
_LEVEL = 0.02  # grey levels, added before a logarithm: a still clip has no change at all
_LEAST_VARIANCE = 0.01  # squared grey levels of a component: less is rounding

# Brightness and two differences of colours, so that a seam or a blur of either shows by itself.
_OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [1, -1, 0], [0.5, 0.5, -1]], np.float32)


def clip_features(clips: Sequence[np.ndarray], stride: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Features float32 `[n, f]` of uint8 clips `[T, H, W, 3]` of any sizes, at least 8 pixels a side.

    Of each clip: quantiles of steps in space, steps by their place on the latent grid of `stride` in space and time, energies of an 8 x 8
    cosine transform, changes from frame to frame, a coarse layout, and statistics of its 3 x 3 x 3 patches along principal components of
    the patches of all clips together. The last components hold what real pictures have least of, which is where artefacts are found.
    """
    opponent = [clip.astype(np.float32) @ _OPPONENT.T for clip in clips]
    components = _components(opponent, seed)
    return np.stack([np.concatenate([_of_clip(each, stride), _of_patches(each, components, seed)]) for each in opponent])


def _of_clip(clip: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
    return np.concatenate([_steps(clip), _places(clip, stride), _cosines(clip), _changes(clip, stride[0]), _layout(clip)])


def _log(values) -> np.ndarray:
    return np.log(np.asarray(values, np.float32) + _LEVEL)


def _steps(clip: np.ndarray) -> np.ndarray:
    """Quantiles of first and second differences over rows and columns, by colour."""
    steps = [np.abs(np.diff(clip, n, axis)).reshape(-1, 3) for n in (1, 2) for axis in (1, 2)]
    return _log(np.concatenate([_quantiles(each.T).ravel() for each in steps]))


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Along the last axis, without interpolation: `[..., quantiles]`."""
    count = values.shape[-1]
    places = [int(each * (count - 1)) for each in _QUANTILES]
    return np.partition(values, places, axis=-1)[..., places]


def _by_place(steps: np.ndarray, period: int) -> np.ndarray:
    """Of mean steps `[n, c]`, those at each place of a period against the mean of all: `[period * c]`; 0 where there are none."""
    means = np.stack([steps[place::period].mean(0) if place < len(steps) else steps.mean(0) for place in range(period)])
    return (_log(means) - _log(steps.mean(0))).ravel()


def _places(clip: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
    """Steps by place on the latent grid, those of the outlines of solids cut off: these lie anywhere."""
    rows = np.minimum(np.abs(np.diff(clip, axis=1)), _SMOOTH).mean((0, 2))
    columns = np.minimum(np.abs(np.diff(clip, axis=2)), _SMOOTH).mean((0, 1))
    return np.concatenate([_by_place(rows, stride[1]), _by_place(columns, stride[2])])


def _cosines(clip: np.ndarray) -> np.ndarray:
    frames, height, width, _ = clip.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    blocks = clip[:, : rows * _BLOCK, : columns * _BLOCK].reshape(frames, rows, _BLOCK, columns, _BLOCK, 3)
    return _log(np.abs(dctn(blocks, axes=(2, 4), norm="ortho")).mean((0, 1, 3))).ravel()


def _changes(clip: np.ndarray, stride: int) -> np.ndarray:
    """Changes from frame to frame: quantiles over pixels, how even they are over frames, and by place in a latent; 0 for an image."""
    size = 2 * len(_QUANTILES) + 5 + 3 * stride
    if len(clip) < 3:
        return np.zeros(size, np.float32)
    changes = np.abs(np.diff(clip, axis=0))
    bends = np.abs(np.diff(clip[..., 0], 2, axis=0))
    by_colour = changes.mean((1, 2))
    of_frame = by_colour.mean(-1)
    quantiles = [_quantiles(each.ravel()) for each in (changes[..., 0], bends)]
    even = _log([of_frame.min(), of_frame.max(), np.abs(np.diff(of_frame)).mean(), bends.mean()]) - _log(of_frame.mean())
    return np.concatenate([_log(np.concatenate(quantiles)), _log([of_frame.mean()]), even, _by_place(by_colour, stride)])


def _layout(clip: np.ndarray) -> np.ndarray:
    """Mean and deviation of each colour, as a whole and of a 3 x 3 grid of the frame."""
    parts = [part for rows in np.array_split(clip, 3, axis=1) for part in np.array_split(rows, 3, axis=2)]
    return np.concatenate([np.concatenate([each.mean((0, 1, 2)), each.std((0, 1, 2))]) for each in (clip, *parts)]) / 255


def _patches(clip: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`[count, 81]`: patches of 3 frames, rows, columns and colours; frames are repeated at the ends of the clip."""
    frames, height, width, _ = clip.shape
    rng = np.random.default_rng([seed, *clip.shape])
    t, y, x = (rng.integers(0, most, count) for most in (frames, height - _PATCH + 1, width - _PATCH + 1))
    around = np.arange(_PATCH)
    t = np.clip(t[:, None] + around - 1, 0, frames - 1)
    places = (t[:, :, None, None] * height + (y[:, None] + around)[:, None, :, None]) * width + (x[:, None] + around)[:, None, None, :]
    return clip.reshape(-1, 3).take(places.reshape(count, -1), axis=0).reshape(count, -1)


def _components(clips: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """Principal components of the patches of all clips, less the mean of each colour of a patch, scaled to deviation 1: `[81, k]`."""
    patches = np.concatenate([_patches(clip, _FOR_COMPONENTS, seed) for clip in clips]).reshape(-1, _PATCH**3, 3)
    patches = (patches - patches.mean(1, keepdims=True)).reshape(len(patches), -1)
    variances, axes = np.linalg.eigh((patches.T @ patches).astype(np.float64) / len(patches))
    kept = variances > 1e-6 * variances[-1]
    return (axes[:, kept] / np.sqrt(np.maximum(variances[kept], _LEAST_VARIANCE))).astype(np.float32)


def _of_patches(clip: np.ndarray, components: np.ndarray, seed: int) -> np.ndarray:
    sizes = np.abs(_patches(clip, _PATCHES, seed) @ components)
    moments = [sizes.mean(0), np.sqrt(np.einsum("ij,ij->j", sizes, sizes) / len(sizes)), np.sqrt(sizes).mean(0) ** 2]
    return np.concatenate([*(_log(each) for each in moments), np.sqrt((sizes > _FAR).mean(0))])

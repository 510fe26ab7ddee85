"""Spacetime patches: a latent video cut into tokens and put together again."""

from typing import TypeVar

import numpy as np

Array = TypeVar("Array")  # numpy or jax arrays: only reshape and transpose are used


def grid(shape: tuple[int, ...], patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many patches a `[T, H, W, ...]` array holds along (time, height, width).

    Raises ValueError when a side is not a multiple of the patch.
    """
    if any(side % p for side, p in zip(shape, patch)):
        raise ValueError(f"a latent of {tuple(shape[:3])} (time, height, width) is not a multiple of the patch {patch}")
    return shape[0] // patch[0], shape[1] // patch[1], shape[2] // patch[2]


def patchify(latents_TxHxWxC: Array, patch: tuple[int, int, int]) -> Array:
    """`[T, H, W, C]` -> `[t * h * w, pt * ph * pw * C]`, time slowest and width fastest."""
    t, h, w = grid(latents_TxHxWxC.shape, patch)
    channels = latents_TxHxWxC.shape[3]
    cut = latents_TxHxWxC.reshape(t, patch[0], h, patch[1], w, patch[2], channels)
    return cut.transpose(0, 2, 4, 1, 3, 5, 6).reshape(t * h * w, -1)


def unpatchify(tokens_LxP: Array, patches: tuple[int, int, int], patch: tuple[int, int, int]) -> Array:
    """The inverse of `patchify`: `[t * h * w, P]` -> `[T, H, W, C]`; `patches` is (t, h, w)."""
    t, h, w = patches
    cut = tokens_LxP.reshape(t, h, w, *patch, -1).transpose(0, 3, 1, 4, 2, 5, 6)
    return cut.reshape(t * patch[0], h * patch[1], w * patch[2], -1)


def patch_positions(patches: tuple[int, int, int]) -> np.ndarray:
    """`int32 [t * h * w, 3]`: where each token stands in its own clip, counted in patches from its first corner."""
    axes = np.meshgrid(*[np.arange(n, dtype=np.int32) for n in patches], indexing="ij")
    return np.stack([axis.reshape(-1) for axis in axes], axis=-1)


def text_positions(length: int) -> np.ndarray:
    """`int32 [length, 3]`: text stands before the first frame in time, its last token at time -1, at row and column 0."""
    positions = np.zeros((length, 3), np.int32)
    positions[:, 0] = np.arange(-length, 0)
    return positions

"""Blocks of pixels that overlap their neighbours: what a decoder makes of one block fades into the next, in space and in time, so that no
seam can show where they meet.

Space: a lapped orthogonal transform in its time-domain form, an orthonormal filter over each boundary between blocks, before the blocks
are cut and, transposed, after they are joined (Malvar and Staelin, "The LOT", 1989; Tran, Liang and Tu, "Lapped transform via time-domain
pre- and post-filtering", 2003). Constants pass unchanged, and nothing is done at the frame's own borders. A block so reaches over half of
each neighbour.

Time: a block holds its last frame, the knot, and how the frames between two knots depart from fading from the one to the other, as a
discrete sine transform, which is zero at both knots. A video's first frame is a knot alone, so all of it is causal.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from videodit.models.vae.layers import fold, unfold, with_past


@functools.lru_cache(maxsize=16)
def boundary_filter(block: int) -> np.ndarray:
    """float32 `[block, block]`, orthonormal: what an even number of pixels, centred on a boundary between two blocks, become.

    Tran, Liang and Tu (2003), section III: half of [[I, J], [J, -I]] diag(I, V) [[I, J], [J, -I]] with V = J C2^T C4 J of Malvar's LOT.
    """
    half = block // 2
    k, n = np.ogrid[:half, :half]
    second = np.cos(np.pi * k * (2 * n + 1) / block) * np.sqrt(np.where(k, 2, 1) / half)  # DCT-II
    fourth = np.cos(np.pi * (2 * k + 1) * (2 * n + 1) / (2 * block)) * np.sqrt(2 / half)  # DCT-IV
    eye, turn, none = np.eye(half), np.eye(half)[::-1], np.zeros((half, half))
    butterfly = np.block([[eye, turn], [turn, -eye]])
    return (butterfly @ np.block([[eye, none], [none, turn @ second.T @ fourth @ turn]]) @ butterfly / 2).astype(np.float32)


def lap(x, stride: tuple[int, int, int], inverse: bool = False):
    """Filters `[B, T, H, W, C]` over the boundaries between blocks of `stride` rows and columns; `inverse` undoes it."""
    for axis, block in ((2, stride[1]), (3, stride[2])):
        if block > 1:
            x = _lap_axis(x, axis, boundary_filter(block).T if inverse else boundary_filter(block))
    return x


def _lap_axis(x, axis: int, matrix: np.ndarray):
    x, half = jnp.moveaxis(x, axis, -1), len(matrix) // 2
    inner = x[..., half:-half]
    filtered = inner.reshape(*inner.shape[:-1], x.shape[-1] // len(matrix) - 1, len(matrix)) @ matrix.T
    return jnp.moveaxis(jnp.concatenate([x[..., :half], filtered.reshape(inner.shape), x[..., -half:]], axis=-1), -1, axis)


@functools.lru_cache(maxsize=16)
def _sines(count: int) -> np.ndarray:
    """float32 `[count, count]`: the orthonormal DST-I, its own inverse."""
    n = np.arange(1, count + 1)
    return (np.sqrt(2 / (count + 1)) * np.sin(np.pi * np.outer(n, n) / (count + 1))).astype(np.float32)


def _faded(knots, time: int):
    """Knots `[B, 1 + k, ...]` -> `[B, k, time - 1, ...]`, the frames between them if each faded into the next."""
    share = (np.arange(1, time, dtype=np.float32) / time).reshape(-1, *[1] * (knots.ndim - 2))
    return knots[:, :-1, None] * (1 - share) + knots[:, 1:, None] * share


def _to_parts(frames, time: int, first: bool):
    """Frames `[B, 1 + s k, ...]`, the first of which is a video's first or the last one before, to parts: `[B, s (1 + k), ...]` or
    `[B, s k, ...]`."""
    knots, k = frames[:, ::time], frames.shape[1] // time
    between = frames[:, 1:].reshape(len(frames), k, time, *frames.shape[2:])[:, :, :-1] - _faded(knots, time)
    parts = jnp.concatenate([jnp.einsum("fs,bks...->bkf...", _sines(time - 1), between), knots[:, 1:, None]], axis=2)
    parts = parts.reshape(len(frames), time * k, *frames.shape[2:])
    alone = jnp.pad(knots[:, :1], ((0, 0), (time - 1, 0), *[(0, 0)] * (frames.ndim - 2)))
    return jnp.concatenate([alone, parts], axis=1) if first else parts


def _from_parts(parts, knots, time: int, first: bool):
    """The inverse of `_to_parts`, given all `[B, 1 + k, ...]` knots."""
    k, rest = knots.shape[1] - 1, parts.shape[2:]
    sines = parts[:, time * first :].reshape(len(parts), k, time, *rest)[:, :, :-1]
    between = _faded(knots, time) + jnp.einsum("fs,bkf...->bks...", _sines(time - 1), sines)
    frames = jnp.concatenate([between, knots[:, 1:, None]], axis=2).reshape(len(parts), time * k, *rest)
    return jnp.concatenate([knots[:, :1], frames], axis=1) if first else frames


class ToLapped(nn.Module):
    """As `layers.to_blocks`, of blocks that overlap: `[B, 1 + s k, H, W, C] -> [B, 1 + k, H', W', t * h * w * C]`.

    Of a block's `t` parts the last is its knot, those before it are sine coefficients, the lowest first. Where not `first`,
    `[B, s k, ...] -> [B, k, ...]`, going on from the last frame before.
    """

    stride: tuple[int, int, int]

    @nn.compact
    def __call__(self, pixels, first: bool = True):
        time, x = self.stride[0], lap(pixels, self.stride)
        if time > 1:
            x = _to_parts(with_past(self, x, 0, 1, first), time, first)
        return fold(x, self.stride)


class FromLapped(nn.Module):
    """The inverse of `ToLapped`; where not `first`, `[B, k, ...] -> [B, s k, ...]`, going on from the last knot before."""

    stride: tuple[int, int, int]

    @nn.compact
    def __call__(self, blocks, first: bool = True):
        time, x = self.stride[0], unfold(blocks, self.stride)
        if time > 1:
            knots = with_past(self, x[:, time - 1 :: time], 0, 1, first)
            x = _from_parts(x, knots, time, first)
        return lap(x, self.stride, inverse=True)

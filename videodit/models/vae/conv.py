"""Convolutions over time, height and width in the form that the backend runs fastest."""

import jax
import jax.numpy as jnp


def _stack_time(x, taps: int, stride: int):
    """`[B, T, H, W, I] -> [B, T', H, W, taps * I]`: each frame beside the frames that the kernel sees with it."""
    frames = (x.shape[1] - taps) // stride + 1
    views = [jax.lax.slice_in_dim(x, i, i + (frames - 1) * stride + 1, stride, axis=1) for i in range(taps)]
    return jnp.concatenate(views, axis=-1) if taps > 1 else views[0]


def convolve(x, kernel, *, stride=(1, 1, 1), padding=((0, 0), (0, 0)), form="auto"):
    """x `[B, T, H, W, I]` (the causal past already before it: nothing is padded in time), kernel `[kt, kh, kw, I, O]` -> `[B, T', H', W', O]`.

    `padding` is of zeros, rows and columns: `((top, bottom), (left, right))`. `T' = (T - kt) // stride[0] + 1`.
    """
    kt, kh, kw, _, features = kernel.shape
    stacked = _stack_time(x, kt, stride[0])
    flat = stacked.reshape(-1, *stacked.shape[2:])
    kernel2d = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, -1, features)
    out = jax.lax.conv_general_dilated(flat, kernel2d, stride[1:], padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape(*stacked.shape[:2], *out.shape[1:])

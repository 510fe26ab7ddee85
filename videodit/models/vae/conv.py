"""Convolutions over time, height and width, each in the form that the backend runs fastest.

`convolve` is the one entrance. What it picks on the CPU was measured (experiments/benchmarks/convolutions.py):

- 3x3 in space at stride 1, the bulk of a video autoencoder: Winograd's minimal filtering (winograd.py).
- few outputs (the last layer): one matrix product over channels for all taps, then a sum of shifted planes.
- the rest: one 2D convolution whose channels are the frames that a kernel sees, side by side.

Elsewhere it is XLA's own 3D convolution, which partitions well over height and width and maps to cuDNN and to the TPU's matrix unit; what
is fastest there has not been measured.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError
from videodit.models.vae.winograd import winograd, winograd_input_gradient, winograd_kernel_gradient

_FEWEST_PIXELS = 1024  # in all frames: with fewer, transforming the kernel costs more than it saves
_FRAMES_A_CHUNK = 4  # of a streamed video: what the choice of a form counts on, so that it does not depend on the video's length
_FEWEST_CHANNELS = 8  # with fewer, matrix products are too thin


def convolve(x, kernel, *, stride=(1, 1, 1), padding=((0, 0), (0, 0)), form="auto"):
    """Convolve x `[B, T, H, W, I]` with a kernel `[kt, kh, kw, I, O]` to `[B, (T - kt) // stride[0] + 1, H', W', O]`.

    Nothing is padded in time: a causal layer puts the past before x. `padding` is of zeros, rows and columns:
    `((top, bottom), (left, right))`. The form of a frame's result depends neither on the batch nor on how many frames come with it; its
    last bits may, where a frame is small. Has reverse-mode gradients alone.

    `form` is "auto", or one of "winograd" (3x3 in space, stride 1), "planes" (stride 1), "stacked" and "volume" (any).
    """
    if form not in ("auto", *_FORMS):
        raise UserError(f"form of convolution {form!r}: one of auto, {', '.join(_FORMS)}")
    return _convolve(x, kernel, tuple(stride), tuple(map(tuple, padding)), form)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x, kernel, stride, padding, form):
    run = lambda form: functools.partial(_FORMS[form], stride=stride, padding=padding)
    if form != "auto":
        return run(form)(x, kernel)
    on_cpu = _cpu_form(x.shape, kernel.shape, stride, padding, _FRAMES_A_CHUNK)
    return lax.platform_dependent(x, kernel, cpu=run(on_cpu), default=run("volume"))


def _forward(x, kernel, stride, padding, form):
    return _convolve(x, kernel, stride, padding, form), (x, kernel)


def _backward(stride, padding, form, saved, gradient):
    x, kernel = saved
    run = lambda form: functools.partial(_gradients, stride=stride, padding=padding, form=form)
    if form != "auto":
        return run(form)(x, kernel, gradient)
    on_cpu = _cpu_form(x.shape, kernel.shape, stride, padding, gradient.shape[0] * gradient.shape[1])
    return lax.platform_dependent(x, kernel, gradient, cpu=run(on_cpu), default=run("volume"))


_convolve.defvjp(_forward, _backward)


def _gradients(x, kernel, gradient, *, stride, padding, form):
    """Of x and of the kernel; XLA's own where no form of ours is faster."""
    if form == "winograd":
        return winograd_input_gradient(kernel, gradient, padding), winograd_kernel_gradient(x, kernel, gradient, padding)
    if form == "planes":
        return _stacked_input_gradient(kernel, gradient, padding), _planes_kernel_gradient(x, kernel, gradient, padding)
    return jax.vjp(functools.partial(_FORMS[form], stride=stride, padding=padding), x, kernel)[1](gradient)


def _stacked_input_gradient(kernel, gradient, padding):
    """At stride 1: the output's gradient convolved with the kernel turned around."""
    kt, kh, kw, _, _ = kernel.shape
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    spread = jnp.pad(gradient, ((0, 0), (kt - 1, kt - 1), (0, 0), (0, 0), (0, 0)))
    padding = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip((kh, kw), padding))
    return _stacked(spread, turned, (1, 1, 1), padding)


def _cpu_form(shape, kernel_shape, stride, padding, frames: int) -> str:
    """The fastest form on the CPU for `frames` frames."""
    (_, kh, kw, inputs, outputs), (height, width) = kernel_shape, _out_size(shape, kernel_shape, padding)
    if stride != (1, 1, 1) or (kh, kw) != (3, 3) or inputs < _FEWEST_CHANNELS or np.max(padding) >= 3:
        return "stacked"
    if outputs < _FEWEST_CHANNELS:
        return "planes"
    return "winograd" if frames * height * width >= _FEWEST_PIXELS else "stacked"


def _out_size(shape, kernel_shape, padding) -> tuple[int, int]:
    return tuple(n + sum(p) - k + 1 for n, p, k in zip(shape[2:4], padding, kernel_shape[1:3]))


def _volume(x, kernel, stride, padding):
    """XLA's own 3D convolution."""
    return lax.conv_general_dilated(x, kernel, stride, ((0, 0), *padding), dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def _windows(x, taps: int, stride: int, axis: int) -> list:
    """`taps` views of x; the i-th holds the i-th frame that a kernel sees."""
    frames = (x.shape[axis] - taps) // stride + 1
    return [lax.slice_in_dim(x, i, i + (frames - 1) * stride + 1, stride, axis=axis) for i in range(taps)]


def _stacked(x, kernel, stride, padding):
    """One 2D convolution: the frames that a kernel sees lie side by side as channels."""
    kt, kh, kw, _, features = kernel.shape
    frames = jnp.concatenate(_windows(x, kt, stride[0], axis=1), axis=-1)
    kernel2d = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, -1, features)
    if (kh, kw) == (1, 1) and stride[1:] == (1, 1) and padding == ((0, 0), (0, 0)):
        return frames @ kernel2d[0, 0]
    flat = frames.reshape(-1, *frames.shape[2:])
    out = lax.conv_general_dilated(flat, kernel2d, stride[1:], padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape(*frames.shape[:2], *out.shape[1:])


def _planes(x, kernel, stride, padding):
    """A plane for each tap and output by one matrix product over channels, then the sum of the planes, each shifted by its tap."""
    kt, kh, kw, inputs, features = kernel.shape
    height, width = _out_size(x.shape, kernel.shape, padding)
    planes = lax.dot_general(kernel.reshape(-1, inputs, features), x, (((1,), (4,)), ((), ())))  # [taps, O, B, T, H, W]
    planes = jnp.pad(planes, ((0, 0),) * 4 + padding)
    frames, out = x.shape[1] - kt + 1, 0
    for tap, (t, i, j) in enumerate(np.ndindex(kt, kh, kw)):
        out += planes[tap, :, :, t : t + frames, i : i + height, j : j + width]
    return jnp.moveaxis(out, 0, -1)


def _planes_kernel_gradient(x, kernel, gradient, padding):
    """The output's gradient, a plane for each output and shift by a tap, in one matrix product with x over all pixels."""
    taps, (height, width) = kernel.shape[:3], x.shape[2:4]
    (top, bottom), (left, right) = padding
    around = [(taps[0] - 1,) * 2, (taps[1] - 1 - top, taps[1] - 1 - bottom), (taps[2] - 1 - left, taps[2] - 1 - right)]
    planes = jnp.pad(jnp.moveaxis(gradient, -1, 0), ((0, 0), (0, 0), *around))
    shifts = [tuple(k - 1 - i for k, i in zip(taps, tap)) for tap in np.ndindex(*taps)]
    planes = jnp.stack([planes[:, :, t : t + x.shape[1], i : i + height, j : j + width] for t, i, j in shifts])
    return lax.dot_general(planes, x, (((2, 3, 4, 5), (0, 1, 2, 3)), ((), ()))).swapaxes(1, 2).reshape(kernel.shape)


def _winograd(x, kernel, stride, padding):
    """Winograd's minimal filtering."""
    return winograd(x, kernel, padding)


_FORMS = {"winograd": _winograd, "planes": _planes, "stacked": _stacked, "volume": _volume}

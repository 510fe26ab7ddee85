"""Convolutions over time, height and width, each in the form that the backend runs fastest.

`convolve` is the one entrance. What it picks on the CPU was measured (experiments/benchmarks/convolutions.py):

- 3x3 in space at stride 1, the bulk of a video autoencoder: Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, 2016, "Fast
  Algorithms for Convolutional Neural Networks", section 4). A tile of 4x4 outputs costs 36 products instead of 144, and all of them are
  matrix products, which XLA runs at several times the rate of its convolutions.
- few outputs (the last layer): one matrix product over channels for all taps, then a sum of shifted planes.
- the rest: one 2D convolution whose channels are the frames that a kernel sees, side by side.

Elsewhere it is XLA's own 3D convolution, which partitions well over height and width and maps to cuDNN and to the TPU's matrix unit; what
is fastest there has not been measured.
"""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError

_TILE = 4  # outputs a side; input tiles are _TILE + 2 a side
_TILES_A_BLOCK = 128  # rows of each matrix product: large enough to run at full rate, small enough to stay in the cache
_FEWEST_TILES = 64  # in all frames: with fewer, transforming the kernel costs more than it saves
_FRAMES_A_CHUNK = 4  # of a streamed video: what the choice of a form counts on, so that it does not depend on the video's length
_FEWEST_CHANNELS = 8  # with fewer, matrix products are too thin
_POINT_GROUPS = 2  # independent matrix products, which XLA runs on different cores at once


def convolve(x, kernel, *, stride=(1, 1, 1), padding=((0, 0), (0, 0)), form="auto"):
    """Convolve x `[B, T, H, W, I]` with a kernel `[kt, kh, kw, I, O]` to `[B, (T - kt) // stride[0] + 1, H', W', O]`.

    Nothing is padded in time: a causal layer puts the past before x. `padding` is of zeros, rows and columns:
    `((top, bottom), (left, right))`. A frame's result depends neither on the batch nor on how many frames come with it.

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
        return _input_gradient(kernel, gradient, padding, form).astype(x.dtype), _winograd_kernel_gradient(x, kernel, gradient, padding)
    if form == "planes":
        return _input_gradient(kernel, gradient, padding, "stacked"), _planes_kernel_gradient(x, kernel, gradient, padding)
    return jax.vjp(functools.partial(_FORMS[form], stride=stride, padding=padding), x, kernel)[1](gradient)


def _input_gradient(kernel, gradient, padding, form):
    """At stride 1: the output's gradient convolved with the kernel turned around."""
    kt, kh, kw, _, _ = kernel.shape
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    spread = jnp.pad(gradient, ((0, 0), (kt - 1, kt - 1), (0, 0), (0, 0), (0, 0)))
    padding = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip((kh, kw), padding))
    return _FORMS[form](spread, turned, (1, 1, 1), padding)


def _cpu_form(shape, kernel_shape, stride, padding, frames: int) -> str:
    """The fastest form on the CPU for `frames` frames."""
    (_, kh, kw, inputs, outputs), (height, width) = kernel_shape, _out_size(shape, kernel_shape, padding)
    if stride != (1, 1, 1) or (kh, kw) != (3, 3) or inputs < _FEWEST_CHANNELS or np.max(padding) >= 3:
        return "stacked"
    if outputs < _FEWEST_CHANNELS:
        return "planes"
    return "winograd" if frames * math.ceil(height / _TILE) * math.ceil(width / _TILE) >= _FEWEST_TILES else "stacked"


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


def _winograd_matrices(points: tuple[float, ...]):
    """A^T `[m, n]`, G `[n, 3]` and B^T `[n, n]` of F(m, 3) by Toom and Cook's construction at `points` and infinity, n = m + 2.

    y = A^T ((G g) * (B^T d)) is the valid correlation of d, n long, with g, 3 long (Lavin and Gray, 2016, equation 7).
    """
    n, m = len(points) + 1, len(points) - 1
    out = np.array([[p**i for p in points] + [float(i == m - 1)] for i in range(m)])
    scale = [math.prod(p - q for q in points if q != p) for p in points]
    kernel = np.array([[p**i / s for i in range(3)] for p, s in zip(points, scale)] + [[0.0, 0.0, 1.0]])
    products = np.einsum("kn,nj->kjn", out, kernel).reshape(3 * m, n)
    wanted = np.array([np.eye(n)[k + j] for k in range(m) for j in range(3)])
    data = np.linalg.lstsq(products, wanted, rcond=None)[0]
    return out, kernel, np.where(abs(data) < 1e-9, 0, data)


# Pairs of opposite and reciprocal points near 1 keep powers, and so rounding errors, small: a quarter of the error of 0, +-1, +-2.
# Rows of the matrices are for both axes of a tile at once.
_OUTPUT, _KERNEL, _DATA = (np.kron(a, a) for a in _winograd_matrices((0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)))
_GROUPS = np.split(np.arange(len(_DATA)), _POINT_GROUPS)


def _block_shape(rows: int, columns: int, frames: int) -> tuple[int, int]:
    """Rows and columns of tiles that are transformed and multiplied at once, for `frames` frames."""
    across = max(1, round(columns * frames / _TILES_A_BLOCK))
    down = max(1, round(rows * columns * frames / _TILES_A_BLOCK)) if across == 1 else rows
    return math.ceil(rows / down), math.ceil(columns / across)


def _to_phases(x, padding, rows: int, columns: int):
    """`[B, T, H, W, C]`, zeros around it -> `[rows, 4, 4, B * T, columns, C]`: pixels by their place in a 4x4 tile."""
    b, t, height, width, c = x.shape
    (top, _), (left, _) = padding
    pad = ((0, 0), (top, _TILE * rows - height - top), (left, _TILE * columns - width - left), (0, 0))
    tiles = jnp.pad(x.reshape(b * t, height, width, c), pad).reshape(b * t, rows, _TILE, columns, _TILE, c)
    return lax.optimization_barrier(tiles.transpose(1, 2, 4, 0, 3, 5))


def _data_tiles(phases, batch: int):
    """`[r + 1, 4, 4, B * T, c + 1, I]` -> `[36, r, B, T, c, I]`: 6x6 pixels for each tile, 2 rows and columns of them its neighbours'."""
    p = phases.transpose(1, 2, 0, 3, 4, 5)
    p = jnp.concatenate([p[:, :, :-1], p[:2, :, 1:]], axis=0)
    p = jnp.concatenate([p[..., :-1, :], p[:, :2, ..., 1:, :]], axis=1)
    return p.reshape(len(_DATA), p.shape[2], batch, -1, *p.shape[4:])


class _Blocks:
    """How one layer's tiles are cut into blocks, which bound the memory and stay in the cache."""

    def __init__(self, shape, kernel_shape, padding):
        self.batch, self.inputs, self.features, self.taps = shape[0], *kernel_shape[-2:], kernel_shape[0]
        self.frames = shape[1] - self.taps + 1
        self.size = _out_size(shape, kernel_shape, padding)
        rows, columns = (math.ceil(n / _TILE) for n in self.size)
        self.rows, self.columns = _block_shape(rows, columns, self.batch * self.frames)
        self.down, self.across = math.ceil(rows / self.rows), math.ceil(columns / self.columns)
        self.all_rows, self.all_columns = self.down * self.rows, self.across * self.columns

    def place(self, n):
        """First row and column of tiles of the n-th block."""
        return n // self.across * self.rows, n % self.across * self.columns

    def data(self, phases, n):
        """Transformed data of the n-th block for each group of points, `[points, tiles, taps * I]`."""
        row, column = self.place(n)
        size = (self.rows + 1, _TILE, _TILE, phases.shape[3], self.columns + 1, self.inputs)
        tiles = _data_tiles(lax.dynamic_slice(phases, (row, 0, 0, 0, column, 0), size), self.batch)
        for group in _GROUPS:
            moved = jnp.tensordot(_DATA[group].astype(phases.dtype), tiles, 1)
            yield jnp.concatenate(_windows(moved, self.taps, 1, axis=3), axis=-1).reshape(len(group), -1, self.taps * self.inputs)


def _input_phases(x, padding, blocks):
    """The data of one layer with room for the last tiles' overlap."""
    (top, _), (left, _) = padding
    rows, columns = blocks.all_rows + 1, blocks.all_columns + 1
    x = x[:, :, : _TILE * rows - top, : _TILE * columns - left]
    return _to_phases(x, padding, rows, columns)


def _winograd(x, kernel, stride, padding):
    """F(4x4, 3x3) over space; the taps in time lie side by side in the matrix products. Runs in float32 or wider."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    blocks = _Blocks(x.shape, kernel.shape, padding)
    phases = _input_phases(x.astype(dtype), padding, blocks)
    by_tap = kernel.astype(dtype).transpose(1, 2, 0, 3, 4).reshape(9, -1)
    kernels = [(_KERNEL[g].astype(dtype) @ by_tap).reshape(len(g), -1, blocks.features) for g in _GROUPS]

    def run(n, out):
        tiles = 0
        for group, data, weights in zip(_GROUPS, blocks.data(phases, n), kernels):
            product = lax.dot_general(data, weights, (((2,), (1,)), ((0,), (0,))))
            tiles += _OUTPUT[:, group].astype(dtype) @ product.reshape(len(group), -1)
        tiles = tiles.reshape(_TILE, _TILE, blocks.rows, blocks.batch, blocks.frames, blocks.columns, -1).transpose(3, 4, 2, 0, 5, 1, 6)
        tiles = tiles.reshape(blocks.batch, blocks.frames, _TILE * blocks.rows, _TILE * blocks.columns, -1)
        row, column = blocks.place(n)
        return lax.dynamic_update_slice(out, tiles.astype(out.dtype), (0, 0, _TILE * row, _TILE * column, 0))

    shape = (blocks.batch, blocks.frames, _TILE * blocks.all_rows, _TILE * blocks.all_columns, blocks.features)
    out = lax.fori_loop(0, blocks.down * blocks.across, run, lax.empty(shape, x.dtype))
    return out[:, :, : blocks.size[0], : blocks.size[1]]


def _winograd_kernel_gradient(x, kernel, gradient, padding):
    """The transpose of `_winograd` in the kernel: 36 matrix products over all tiles."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    blocks = _Blocks(x.shape, kernel.shape, padding)
    phases = _input_phases(x.astype(dtype), padding, blocks)
    gradients = _to_phases(gradient.astype(dtype), ((0, 0), (0, 0)), blocks.all_rows, blocks.all_columns)

    def run(n, sums):
        row, column = blocks.place(n)
        size = (blocks.rows, _TILE, _TILE, gradients.shape[3], blocks.columns, blocks.features)
        out = lax.dynamic_slice(gradients, (row, 0, 0, 0, column, 0), size).transpose(1, 2, 0, 3, 4, 5).reshape(_TILE * _TILE, -1)
        for group, data in zip(_GROUPS, blocks.data(phases, n)):
            moved = (_OUTPUT[:, group].T.astype(dtype) @ out).reshape(len(group), -1, blocks.features)
            sums = [*sums[1:], sums[0] + lax.dot_general(data, moved, (((1,), (1,)), ((0,), (0,))))]
        return sums

    zeros = [jnp.zeros((len(g), blocks.taps * blocks.inputs, blocks.features), dtype) for g in _GROUPS]
    sums = jnp.concatenate(lax.fori_loop(0, blocks.down * blocks.across, run, zeros))
    by_tap = (_KERNEL.T.astype(dtype) @ sums.reshape(len(_KERNEL), -1)).reshape(3, 3, *kernel.shape[:1], *kernel.shape[3:])
    return by_tap.transpose(2, 0, 1, 3, 4).astype(kernel.dtype)


_FORMS = {"winograd": _winograd, "planes": _planes, "stacked": _stacked, "volume": _volume}

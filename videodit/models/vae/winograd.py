"""3x3 convolutions in space, with any taps in time, by Winograd's minimal filtering F(4x4, 3x3), for CPUs.

Lavin and Gray, 2016, "Fast Algorithms for Convolutional Neural Networks", section 4: a tile of 4x4 outputs costs 36 products instead of
144. Here the products of one of the 36 points over all tiles, channels and taps in time are one matrix product, and the transforms before
and after them are matrix products too, which XLA runs faster than its convolutions. Each frame is transformed once. A layer is worked
through in blocks of tiles, which bound the memory and stay in the cache. Everything runs in float32 or wider.
"""

import math

from jax import lax
import jax.numpy as jnp
import numpy as np

_TILE = 4  # outputs a side; input tiles are _TILE + 2 a side
# Both of these are what ran fastest on two cores (experiments/benchmarks/convolutions.py).
_TILES_A_BLOCK = 128  # rows of each matrix product: enough to pay for reading the kernel, few enough to stay in the cache
_GROUPS_OF_POINTS = 4  # independent chains of products within a block, which XLA runs on different cores at once


def _matrices(points: tuple[float, ...]):
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


# Pairs of opposite and reciprocal points near 1 keep powers, and so rounding errors, small: less than half the error of 0, +-1, +-2.
# The matrices are for both axes of a tile at once.
OUTPUT, KERNEL, DATA = (np.kron(a, a) for a in _matrices((0.0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)))
_GROUPS = np.split(np.arange(len(DATA)), _GROUPS_OF_POINTS)


def _block_shape(rows: int, columns: int, frames: int) -> tuple[int, int]:
    """Rows and columns of tiles that are worked on at once, for `frames` frames."""
    across = max(1, round(columns * frames / _TILES_A_BLOCK))
    down = max(1, round(rows * columns * frames / _TILES_A_BLOCK)) if across == 1 else rows
    return math.ceil(rows / down), math.ceil(columns / across)


class _Blocks:
    """A layer's outputs, `size` (height, width), cut into blocks of 4x4 tiles; `frames` is what all clips have together."""

    def __init__(self, size: tuple[int, int], frames: int):
        rows, columns = (math.ceil(n / _TILE) for n in size)
        self.rows, self.columns = _block_shape(rows, columns, frames)
        self.across = math.ceil(columns / self.columns)
        self.count = math.ceil(rows / self.rows) * self.across
        self.all_rows, self.all_columns = self.count // self.across * self.rows, self.across * self.columns

    def place(self, n):
        """First row and column of tiles of the n-th block."""
        return n // self.across * self.rows, n % self.across * self.columns

    def cut(self, phases, n, overlap: int):
        """The n-th block of what `_to_phases` gives, and `overlap` more rows and columns: `[4, 4, rows, B * T, columns, C]`."""
        row, column = self.place(n)
        size = (self.rows + overlap, *phases.shape[1:4], self.columns + overlap, phases.shape[5])
        return lax.dynamic_slice(phases, (row, 0, 0, 0, column, 0), size).transpose(1, 2, 0, 3, 4, 5)

    def data(self, phases, n, batch: int):
        """Transformed data of the n-th block for each group of points, `[points, rows, B, T, columns, C]`."""
        tiles = self.cut(phases, n, overlap=1)
        tiles = jnp.concatenate([tiles[:, :, :-1], tiles[:2, :, 1:]], axis=0)
        tiles = jnp.concatenate([tiles[..., :-1, :], tiles[:, :2, ..., 1:, :]], axis=1)  # [6, 6, rows, B * T, columns, C]
        tiles = tiles.reshape(len(DATA), self.rows, batch, -1, *tiles.shape[4:])
        for group in _GROUPS:
            yield jnp.tensordot(DATA[group].astype(phases.dtype), tiles, 1)


def _to_phases(x, padding, rows: int, columns: int):
    """`[B, T, H, W, C]` within zeros -> `[rows, 4, 4, B * T, columns, C]`: pixels by their place in a 4x4 tile."""
    b, t, height, width, c = x.shape
    (top, _), (left, _) = padding
    pad = ((0, 0), (top, _TILE * rows - height - top), (left, _TILE * columns - width - left), (0, 0))
    tiles = jnp.pad(x.reshape(b * t, height, width, c), pad).reshape(b * t, rows, _TILE, columns, _TILE, c)
    return lax.optimization_barrier(tiles.transpose(1, 2, 4, 0, 3, 5))  # else XLA would do it again in every block


def _input_phases(x, padding, blocks: _Blocks):
    """`_to_phases` of a layer's input, with what the last tiles overlap."""
    (top, _), (left, _) = padding
    rows, columns = blocks.all_rows + 1, blocks.all_columns + 1
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return _to_phases(x[:, :, : _TILE * rows - top, : _TILE * columns - left], padding, rows, columns)


def _out_size(x, padding) -> tuple[int, int]:
    return tuple(n + sum(p) - 2 for n, p in zip(x.shape[2:4], padding))


def _windows(moved, taps: int):
    """`[points, rows, B, T, columns, C] -> [points, rows, B, T - taps + 1, columns, taps * C]`: frames that a kernel sees, side by side."""
    frames = moved.shape[3] - taps + 1
    return jnp.concatenate([moved[:, :, :, i : i + frames] for i in range(taps)], axis=-1)


def _multiply(data, weights):
    """`[points, ..., K]` with `[points, K, N]`."""
    product = lax.dot_general(data.reshape(len(data), -1, data.shape[-1]), weights, (((2,), (1,)), ((0,), (0,))))
    return product.reshape(*data.shape[:-1], -1)


def _filter(x, kernel, padding, frames: int, features: int, product):
    """Transform x, take products at each point, and transform back, block by block: `[B, frames, H', W', features]`.

    The kernel is `[9, K, N]`; `product` takes data `[points, rows, B, T, columns, C]` and the transformed kernel `[points, K, N]` to
    `[points, rows, B, frames, columns, features]`.
    """
    size, batch = _out_size(x, padding), x.shape[0]
    blocks = _Blocks(size, batch * frames)
    phases = _input_phases(x, padding, blocks)
    kernels = [jnp.tensordot(KERNEL[group].astype(phases.dtype), kernel.astype(phases.dtype), 1) for group in _GROUPS]

    def run(n, out):
        tiles = 0.0
        for group, data, weights in zip(_GROUPS, blocks.data(phases, n, batch), kernels):
            tiles += jnp.tensordot(OUTPUT[:, group].astype(phases.dtype), product(data, weights), 1)
        tiles = tiles.reshape(_TILE, _TILE, blocks.rows, batch, frames, blocks.columns, features).transpose(3, 4, 2, 0, 5, 1, 6)
        tiles = tiles.reshape(batch, frames, _TILE * blocks.rows, _TILE * blocks.columns, features)
        row, column = blocks.place(n)
        return lax.dynamic_update_slice(out, tiles.astype(out.dtype), (0, 0, _TILE * row, _TILE * column, 0))

    whole = (batch, frames, _TILE * blocks.all_rows, _TILE * blocks.all_columns, features)
    return lax.fori_loop(0, blocks.count, run, lax.empty(whole, x.dtype))[:, :, : size[0], : size[1]]


def winograd(x, kernel, padding):
    """`[B, T, H, W, I]` with a kernel `[kt, 3, 3, I, O]` -> `[B, T - kt + 1, H', W', O]`; zeros around rows and columns, at most 2."""
    taps, _, _, _, features = kernel.shape
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(9, -1, features)  # [9, kt * I, O]
    return _filter(x, kernel, padding, x.shape[1] - taps + 1, features, lambda data, weights: _multiply(_windows(data, taps), weights))


def winograd_input_gradient(kernel, gradient, padding):
    """From that of the output, `[B, T', H', W', O]`. Each of its frames is multiplied once, for all frames that it was made from."""
    taps, _, _, inputs, features = kernel.shape
    turned = kernel[:, ::-1, ::-1].transpose(1, 2, 4, 0, 3).reshape(9, features, -1)  # [9, O, kt * I]

    def product(data, weights):
        for_taps = jnp.split(_multiply(data, weights), taps, axis=-1)
        pad = lambda part, tap: jnp.pad(part, ((0, 0),) * 3 + ((tap, taps - 1 - tap),) + ((0, 0),) * 2)
        return sum(pad(part, tap) for tap, part in enumerate(for_taps))

    padding = tuple((2 - before, 2 - after) for before, after in padding)
    return _filter(gradient, turned, padding, gradient.shape[1] + taps - 1, inputs, product)


def winograd_kernel_gradient(x, kernel, gradient, padding):
    """The transpose of `winograd` in the kernel: 36 matrix products over all tiles."""
    taps, _, _, inputs, features = kernel.shape
    blocks = _Blocks(_out_size(x, padding), gradient.shape[0] * gradient.shape[1])
    phases = _input_phases(x, padding, blocks)
    gradients = _to_phases(gradient.astype(phases.dtype), ((0, 0), (0, 0)), blocks.all_rows, blocks.all_columns)

    def run(n, sums):
        out = blocks.cut(gradients, n, overlap=0).reshape(_TILE * _TILE, -1)
        for group, data in zip(_GROUPS, blocks.data(phases, n, x.shape[0])):
            moved = (OUTPUT[:, group].T.astype(phases.dtype) @ out).reshape(len(group), -1, features)
            seen = _windows(data, taps).reshape(len(group), -1, taps * inputs)
            sums = [*sums[1:], sums[0] + lax.dot_general(seen, moved, (((1,), (1,)), ((0,), (0,))))]
        return sums

    zeros = [jnp.zeros((len(group), taps * inputs, features), phases.dtype) for group in _GROUPS]
    sums = jnp.concatenate(lax.fori_loop(0, blocks.count, run, zeros))
    by_place = jnp.tensordot(KERNEL.T.astype(phases.dtype), sums, 1).reshape(3, 3, taps, inputs, features)
    return by_place.transpose(2, 0, 1, 3, 4).astype(kernel.dtype)

"""Winograd's transforms are exact in exact arithmetic, and blocks of tiles cover every output once. Values: test_conv.py."""

import math

import numpy as np
import pytest

from videodit.models.vae.winograd import DATA, KERNEL, OUTPUT, _Blocks


def test_a_tile_takes_36_products_and_is_exact():
    assert DATA.shape == (36, 36) and OUTPUT.shape == (16, 36) and KERNEL.shape == (36, 9)
    random = np.random.default_rng(0)
    data, kernel = random.normal(size=(6, 6)), random.normal(size=(3, 3))
    wanted = [(data[i : i + 3, j : j + 3] * kernel).sum() for i in range(4) for j in range(4)]
    np.testing.assert_allclose(OUTPUT @ ((DATA @ data.ravel()) * (KERNEL @ kernel.ravel())), wanted, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 61), (60, 104), (480, 832), (7, 1000)])
@pytest.mark.parametrize("frames", [1, 4, 17, 68])
def test_blocks_cover_every_tile_once_with_little_beyond_them(size, frames):
    blocks = _Blocks(size, frames)
    seen = [
        (row + i, column + j)
        for row, column in map(blocks.place, range(blocks.count))
        for i in range(blocks.rows)
        for j in range(blocks.columns)
    ]
    assert sorted(seen) == sorted(np.ndindex(blocks.all_rows, blocks.all_columns))
    rows, columns = (math.ceil(n / 4) for n in size)
    assert rows <= blocks.all_rows and columns <= blocks.all_columns
    assert blocks.all_rows * blocks.all_columns <= 1.25 * rows * columns
    assert blocks.rows * blocks.columns * frames <= 256 or blocks.rows * blocks.columns == 1

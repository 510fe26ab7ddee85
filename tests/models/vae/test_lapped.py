"""Lapped blocks lose nothing, hold constants in one number, reach over their borders, and go on in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.models.vae.lapped import FromLapped, ToLapped, boundary_filter, lap

STRIDES = [(4, 8, 8), (1, 4, 4), (8, 2, 16), (2, 1, 6)]


def to_blocks(stride, pixels):
    return ToLapped(stride).apply({}, pixels)


def from_blocks(stride, blocks):
    return FromLapped(stride).apply({}, blocks)


def clip(stride, steps=2, rows=3, columns=2):
    t, h, w = stride
    return jax.random.normal(jax.random.key(0), (2, 1 + t * steps, rows * h, columns * w, 3))


@pytest.mark.parametrize("stride", STRIDES, ids=str)
@pytest.mark.parametrize("grid", [(2, 3, 2), (0, 1, 1), (1, 1, 4)], ids=str)
def test_what_goes_into_blocks_comes_out_of_them(stride, grid):
    pixels = clip(stride, *grid)
    blocks = to_blocks(stride, pixels)
    assert blocks.shape == (2, 1 + grid[0], *grid[1:], 3 * np.prod(stride))
    np.testing.assert_allclose(from_blocks(stride, blocks), pixels, atol=2e-6)


@pytest.mark.parametrize("block", [2, 4, 6, 8, 16])
def test_the_filter_over_a_boundary_is_orthonormal_and_keeps_constants(block):
    matrix = boundary_filter(block)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(block), atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_a_constant_video_is_constant_blocks():
    pixels = jnp.ones((1, 9, 24, 16, 1))
    parts = np.asarray(to_blocks((4, 8, 8), pixels)).reshape(1, 3, 3, 2, 4, 8, 8)
    np.testing.assert_allclose(parts[..., :3, :, :], 0, atol=1e-6)  # nothing but knots
    np.testing.assert_allclose(parts[..., 3, :, :], 1, atol=1e-6)


def test_one_number_of_one_block_leaves_no_step_at_the_blocks_borders():
    """The lowest function of a block: where plain blocks would step from its full height to 0, no step is higher than within it."""
    blocks = np.zeros((1, 3, 5, 5, 4 * 8 * 8), np.float32).reshape(1, 3, 5, 5, 4, 8, 8)
    blocks[0, 1, 2, 2, 3] = 1.0  # its knot, the same over the block
    pixels = np.asarray(from_blocks((4, 8, 8), blocks.reshape(1, 3, 5, 5, -1)))[0, ..., 0]
    row, column, times = pixels[4, 20], pixels[4, :, 20], pixels[:, 20, 20]
    for line in (row, column):
        steps = np.abs(np.diff(line))
        assert line.max() > 1.0 and steps.max() < 0.35 * line.max()
    np.testing.assert_allclose(np.diff(times)[:8], np.r_[[times[4] / 4] * 4, [-times[4] / 4] * 4], atol=1e-6)


def test_a_block_reaches_over_half_of_each_neighbour_and_no_further():
    pixels = jnp.zeros((1, 1, 40, 40, 1)).at[:, :, 20, 20].set(1.0)
    seen = np.abs(np.asarray(lap(pixels, (1, 8, 8))))[0, 0, :, :, 0].max(1) > 1e-6
    assert seen[20:28].any() and not seen[:12].any() and not seen[28:].any()


@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_no_block_knows_a_later_frame(stride):
    pixels = clip(stride, 3)
    changed = pixels.at[:, 1 + 2 * stride[0] :].add(1.0)
    np.testing.assert_array_equal(to_blocks(stride, pixels)[:, :3], to_blocks(stride, changed)[:, :3])


@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_chunks_equal_one_pass(stride):
    pixels = clip(stride, 3)
    whole, t = to_blocks(stride, pixels), stride[0]
    for module, x, cuts in ((ToLapped(stride), pixels, (1, 1 + t, 1 + 3 * t)), (FromLapped(stride), whole, (1, 2, 4))):
        cache, parts = {}, []
        for begin, end in zip((0, *cuts), cuts):
            part, kept = module.apply({"cache": cache} if begin else {}, x[:, begin:end], begin == 0, mutable=["cache"])
            cache = kept.get("cache", {})
            parts.append(part)
        np.testing.assert_allclose(jnp.concatenate(parts, axis=1), module.apply({}, x), atol=1e-6)

"""Patches: cutting and joining are inverses, and a token's position says where it was."""

import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.patches import grid, patch_positions, patchify, text_positions, unpatchify

SHAPES = [((3, 4, 6, 5), (1, 1, 1)), ((3, 4, 6, 5), (1, 2, 2)), ((4, 6, 2, 1), (2, 3, 1)), ((1, 1, 1, 7), (1, 1, 1))]


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_unpatchify_undoes_patchify(shape, patch, of):
    latents = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tokens = patchify(of(latents), patch)
    assert tokens.shape == (np.prod(grid(shape, patch)), np.prod(patch) * shape[3])
    np.testing.assert_array_equal(unpatchify(tokens, grid(shape, patch), patch), latents)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_the_position_of_a_token_is_its_corner_in_patches(shape, patch):
    places = np.stack(np.meshgrid(*[np.arange(side) for side in shape[:3]], indexing="ij"), axis=-1)
    corners = patchify(places, patch)[:, :3]
    np.testing.assert_array_equal(patch_positions(grid(shape, patch)), corners // np.asarray(patch))


def test_a_size_off_the_patch_names_both():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\).*\(1, 2, 2\)"):
        grid((3, 4, 5, 8), (1, 2, 2))


def test_text_stands_before_the_first_frame_and_ends_at_minus_one():
    positions = text_positions(3)
    np.testing.assert_array_equal(positions, [[-3, 0, 0], [-2, 0, 0], [-1, 0, 0]])
    assert positions[:, 0].max() < patch_positions((2, 2, 2))[:, 0].min()
    assert text_positions(0).shape == (0, 3)

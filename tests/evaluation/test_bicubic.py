"""The bicubic codec keeps as many numbers as it is given, splits them as suits the clip, and is JAX's bicubic."""

import math

import jax
import numpy as np
import pytest

from videodit.evaluation import bicubic
from videodit.evaluation.quality import psnr_db


def smooth(frames, height, width):
    """A clip of slow waves over all of time and space."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([127 + 100 * np.sin((x + y + 2 * t) / 9 + c) for c in range(3)], axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize("size", [(17, 80, 128), (9, 40, 40), (1, 37, 65), (5, 8, 200)])
@pytest.mark.parametrize("share", [1 / 12, 1 / 48, 1 / 192])
def test_sizes_have_the_numbers_and_hardly_more(size, share):
    numbers = round(3 * math.prod(size) * share)
    found = bicubic.sizes_of_numbers(size, numbers)
    assert len({length for length, _, _ in found}) == len(found) == (4 if size[0] > 1 else 1)
    for length, height, width in found:
        whole = 3 * length * size[1] * size[2] <= numbers
        assert (height, width) == size[1:] if whole else numbers <= 3 * length * height * width
        # A row or a column less would be too few.
        assert whole or 3 * length * (height - 1) * (width - 1) < numbers
        assert abs(height / size[1] - width / size[2]) <= 1 / size[1] + 1 / size[2]


def test_room_for_all_numbers_changes_nothing():
    clip = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3), np.uint8)
    assert (bicubic.through_numbers(clip, clip.size).clip == clip).all()


def test_smooth_clips_survive_and_noise_does_not():
    clip = smooth(9, 40, 48)
    noise = np.random.default_rng(0).integers(0, 256, clip.shape, np.uint8)
    assert psnr_db(bicubic.through_size(clip, (5, 20, 24)).clip, clip) > 38
    assert psnr_db(bicubic.through_size(noise, (5, 20, 24)).clip, noise) < 14


def test_time_is_given_up_where_nothing_moves_and_kept_where_all_does():
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(0, 256, (1, 32, 32, 3), np.uint8), 17, axis=0)
    flashes = np.broadcast_to(rng.integers(0, 256, (17, 1, 1, 3), np.uint8), (17, 32, 32, 3))
    numbers = still.size // 48
    assert bicubic.through_numbers(still, numbers).size[0] == 3
    assert bicubic.through_numbers(flashes, numbers).size[0] == 17
    for size in bicubic.sizes_of_numbers(still.shape[:3], numbers):  # no split is better than the one that is taken
        assert psnr_db(bicubic.through_size(still, size).clip, still) <= psnr_db(bicubic.through_numbers(still, numbers).clip, still)


@pytest.mark.parametrize("small", [(3, 15, 20), (9, 7, 33), (1, 40, 48)])
def test_it_is_the_bicubic_of_jax_in_all_three_axes(small):
    clip = np.random.default_rng(0).integers(60, 200, (9, 40, 48, 3), np.uint8)
    shrunk = jax.image.resize(clip.astype(np.float32), (*small, 3), "cubic", antialias=True)
    wanted = jax.image.resize(shrunk, clip.shape, "cubic", antialias=True)
    assert np.abs(bicubic.through_size(clip, small).clip - np.clip(wanted, 0, 255)).max() <= 0.51

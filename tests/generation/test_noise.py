"""Noise is white at every size, and its slow part is a seed's own, whatever the size."""

import numpy as np
import pytest
import scipy.fft

from videodit.generation.noise import start_noise


@pytest.mark.parametrize("size", [(24, 24), (9, 40), (33, 5)])
def test_noise_is_white(size):
    noise = np.concatenate([start_noise(seed, (3, *size, 4)) for seed in range(40)])
    assert noise.dtype == np.float32 and abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    flat = noise.reshape(len(noise), -1)
    for shift in ((0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 2, 1, 0)):  # of neighbours nothing is known
        assert abs((noise * np.roll(noise, shift, axis=(0, 1, 2, 3))).mean()) < 0.01
    assert np.abs(flat.var(axis=0) - 1).mean() < 0.15  # nor is any place louder than others


@pytest.mark.parametrize(("small", "large"), [((4, 6), (8, 12)), ((4, 6), (5, 16)), ((7, 7), (3, 30))])
def test_sizes_share_what_is_slow_in_both(small, large):
    spectra = [scipy.fft.dctn(start_noise(7, (2, *size, 3)), axes=(1, 2), norm="ortho") for size in (small, large)]
    rows, columns = np.minimum(small, large)
    np.testing.assert_allclose(spectra[0][:, :rows, :columns], spectra[1][:, :rows, :columns], atol=1e-4)


def test_frames_are_those_of_clips_of_any_length():
    np.testing.assert_array_equal(start_noise(3, (5, 6, 8, 2))[:2], start_noise(3, (2, 6, 8, 2)))


def test_seeds_and_frames_differ_and_the_same_seed_does_not():
    first, again, other = start_noise(0, (2, 6, 6, 2)), start_noise(0, (2, 6, 6, 2)), start_noise(1, (2, 6, 6, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.3 and abs(np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1]) < 0.4


def test_a_negative_seed_is_a_seed():
    assert np.isfinite(start_noise(-1, (1, 2, 2, 1))).all()

"""Sums are of each sample alone."""

import jax.numpy as jnp
import numpy as np

from videodit.diffusion.samples import sum_over_samples


def test_every_token_gets_the_sum_of_its_own_sample_and_padding_nothing():
    ids = jnp.array([[1, 1, 2, 2, 2, 0], [1, 0, 2, 2, 3, 3]])
    values = jnp.array([[1.0, 2, 3, 4, 5, 99], [7, 99, 1, 1, 2, 2]])
    np.testing.assert_array_equal(sum_over_samples(values, ids), [[3, 3, 12, 12, 12, 0], [7, 0, 2, 2, 4, 4]])

"""Segment ids: a token sees its own sample, and padding is nobody's."""

import jax.numpy as jnp
import numpy as np

from videodit.core.segments import pairs_within, spread, visible

IDS = jnp.array([[1, 1, 2, 0], [3, 0, 0, 3]])


def test_tokens_see_their_own_sample_and_padding_sees_nothing():
    np.testing.assert_array_equal(visible(IDS)[0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(visible(IDS)[1], [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])


def test_the_pairs_owed_are_those_that_are_visible():
    assert pairs_within(IDS) == (2 * 2 + 1) + 2 * 2


def test_a_value_a_segment_becomes_a_value_a_token():
    values = jnp.array([[0.5, 0.25, 9.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(spread(values, IDS), [[0.5, 0.5, 0.25, 0.0], [3.0, 0.0, 0.0, 3.0]])

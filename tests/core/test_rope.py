"""Rotary positions: what a query and a key say to each other depends on how far apart they stand, and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.rope import axis_pairs, rope_angles, rotate

HEAD_DIM, THETA = 32, 100.0


TRAINED = (8, 16, 16)


def turned(x, positions, extent=(1, 1, 1)):
    extent = jnp.broadcast_to(jnp.asarray(extent), positions.shape)
    return rotate(x, *rope_angles(jnp.asarray(positions), extent, HEAD_DIM, THETA, TRAINED))


@pytest.mark.parametrize("head_dim", [2, 8, 32, 48, 64, 128])
def test_every_pair_belongs_to_one_axis(head_dim):
    assert sum(axis_pairs(head_dim)) == head_dim // 2


def test_logits_depend_on_relative_positions_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 6, 1, HEAD_DIM))
    positions = jax.random.randint(jax.random.key(1), (1, 6, 3), -4, 9)
    logits = [
        jnp.einsum("bqhd,bkhd->bqk", turned(q, positions + shift), turned(k, positions + shift)) for shift in (0, jnp.array([7, -3, 11]))
    ]
    np.testing.assert_allclose(*logits, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_axis_is_told_apart(axis):
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, HEAD_DIM))
    here = jnp.zeros((1, 1, 3), jnp.int32)
    logit = lambda place: float((turned(q, here) * turned(k, place)).sum())
    assert abs(logit(here) - logit(here.at[..., axis].set(1))) > 1e-3


def test_turning_keeps_lengths_and_position_zero_changes_nothing():
    x = jax.random.normal(jax.random.key(0), (1, 5, 2, HEAD_DIM))
    positions = jax.random.randint(jax.random.key(1), (1, 5, 3), -9, 9)
    np.testing.assert_allclose(jnp.linalg.norm(turned(x, positions), axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(turned(x, jnp.zeros((1, 5, 3), jnp.int32)), x)


def test_the_type_of_the_channels_is_kept():
    assert turned(jnp.ones((1, 2, 1, HEAD_DIM), jnp.bfloat16), jnp.ones((1, 2, 3), jnp.int32)).dtype == jnp.bfloat16


def test_a_sample_within_what_training_showed_turns_as_ever():
    x = jax.random.normal(jax.random.key(0), (1, 5, 2, HEAD_DIM))
    positions = jax.random.randint(jax.random.key(1), (1, 5, 3), 0, 8)
    np.testing.assert_array_equal(turned(x, positions, (8, 16, 16)), turned(x, positions, (1, 1, 1)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_beyond_training_the_slowest_rotation_goes_no_further_and_the_fastest_stays(axis):
    pairs = axis_pairs(HEAD_DIM)
    first, last = sum(pairs[:axis]), sum(pairs[: axis + 1]) - 1
    place = lambda value: jnp.zeros((1, 1, 3), jnp.int32).at[..., axis].set(value)
    angles = lambda value, extent: np.arctan2(*rope_angles(place(value), place(extent), HEAD_DIM, THETA, TRAINED)[::-1])[0, 0]
    within, beyond = angles(TRAINED[axis], TRAINED[axis]), angles(4 * TRAINED[axis], 4 * TRAINED[axis])
    np.testing.assert_allclose(beyond[last], within[last], rtol=1e-5)
    np.testing.assert_allclose(angles(1, 4 * TRAINED[axis])[first], angles(1, 1)[first], rtol=1e-6)

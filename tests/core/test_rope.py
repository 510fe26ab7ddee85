"""Rotary positions: what a query and a key say to each other depends on how far apart they stand, and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.rope import axis_pairs, rope_angles, rotate

HEAD_DIM, THETA = 32, 100.0


def turned(x, positions):
    return rotate(x, *rope_angles(jnp.asarray(positions), HEAD_DIM, THETA))


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

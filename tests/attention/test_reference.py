"""Packed attention equals plain softmax attention inside each sample, and lets nothing through between two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.attention import packed_attention

B, L, H, D = 2, 12, 2, 8
SEGMENTS = jnp.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 2 + [2] * 2 + [3] * 8])


@pytest.fixture(scope="module")
def qkv():
    return jax.random.normal(jax.random.key(0), (3, B, L, H, D))


def softmax_attention(q, k, v):
    """One sample `[n, H, D]` in float64 with numpy."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(D)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)


def test_it_is_softmax_attention_inside_each_sample(qkv):
    found = packed_attention(*qkv, SEGMENTS)
    for row in range(B):
        for segment in range(1, 4):
            inside = np.flatnonzero(SEGMENTS[row] == segment)
            if len(inside):
                np.testing.assert_allclose(found[row, inside], softmax_attention(*qkv[:, row, inside]), atol=1e-5)


def test_the_samples_of_a_row_may_lie_anywhere(qkv):
    order = np.random.default_rng(0).permutation(L)
    shuffled = packed_attention(*qkv[:, :, order], SEGMENTS[:, order])
    real = np.asarray(SEGMENTS[:, order] > 0)
    np.testing.assert_allclose(shuffled[real], packed_attention(*qkv, SEGMENTS)[:, order][real], atol=1e-6)


def test_a_sample_gets_exactly_no_gradient_from_another(qkv):
    gradients = jax.grad(lambda each: packed_attention(*each, SEGMENTS)[1][SEGMENTS[1] == 2].sum())(qkv)
    np.testing.assert_array_equal(gradients[:, 1][:, np.asarray(SEGMENTS[1] != 2)], 0.0)
    np.testing.assert_array_equal(gradients[:, 0], 0.0)
    assert (np.abs(gradients[2, 1, 2:4]) > 0).all()


def test_what_is_in_the_padding_changes_no_sample(qkv):
    real = SEGMENTS > 0
    other = jnp.where(real[None, :, :, None, None], qkv, 1e4)
    np.testing.assert_array_equal(packed_attention(*other, SEGMENTS)[real], packed_attention(*qkv, SEGMENTS)[real])


def test_a_row_of_padding_gives_numbers(qkv):
    assert jnp.isfinite(packed_attention(*qkv, jnp.zeros_like(SEGMENTS))).all()


def test_logits_are_float32_for_bfloat16_inputs(qkv):
    found = packed_attention(*qkv.astype(jnp.bfloat16), SEGMENTS)
    assert found.dtype == jnp.bfloat16
    real = SEGMENTS > 0
    np.testing.assert_allclose(found[real].astype(jnp.float32), packed_attention(*qkv, SEGMENTS)[real], atol=0.05)

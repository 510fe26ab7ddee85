"""Every form of packed attention is softmax attention inside each sample, and lets nothing through between two: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.attention import make_plan, packed_attention

B, L, H, D = 2, 384, 2, 16


def ids_of(*lengths):
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return np.pad(ids, (0, L - len(ids)))


# Samples that end within a block, at its border, in the block after; one across all blocks; padding behind, none, nothing but.
SEGMENTS = jnp.array(np.stack([ids_of(100, 28, 90, 3, 77), ids_of(20, 350)]), jnp.int32)
FORMS = {"reference": {}, "blocked": {}, "splash": {"interpret": True}, "triton": {"interpret": True}}


@pytest.fixture(scope="module")
def qkv():
    return jax.random.normal(jax.random.key(0), (3, B, L, H, D))


@pytest.fixture(scope="module", params=FORMS)
def attend(request):
    def run(qkv, segment_ids):
        return packed_attention(*qkv, make_plan(segment_ids, request.param, **FORMS[request.param]))

    return jax.jit(run)


def softmax_attention(q, k, v, gradient):
    """One sample `[n, H, D]` in float64 with numpy: attention, and gradients of q, k and v for that of the output."""
    q, k, v, gradient = (np.asarray(x, np.float64) for x in (q, k, v, gradient))
    logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(D)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    back = np.einsum("qhd,khd->hqk", gradient, v)
    back = weights * (back - (weights * back).sum(-1, keepdims=True)) / np.sqrt(D)
    out = np.einsum("hqk,khd->qhd", weights, v)
    return out, [np.einsum("hqk,khd->qhd", back, k), np.einsum("hqk,qhd->khd", back, q), np.einsum("hqk,qhd->khd", weights, gradient)]


def test_it_is_softmax_attention_inside_each_sample(qkv, attend):
    gradient = jax.random.normal(jax.random.key(1), (B, L, H, D)) * (SEGMENTS > 0)[..., None, None]
    found, back = jax.vjp(lambda each: attend(each, SEGMENTS), qkv)
    gradients = np.asarray(back(gradient)[0])
    assert np.isfinite(found).all() and np.isfinite(gradients).all()
    for row in range(B):
        for segment in range(1, int(SEGMENTS[row].max()) + 1):
            inside = np.flatnonzero(SEGMENTS[row] == segment)
            wanted, wanted_gradients = softmax_attention(*qkv[:, row, inside], gradient[row, inside])
            np.testing.assert_allclose(found[row, inside], wanted, atol=1e-5)
            for got, want in zip(gradients[:, row, inside], wanted_gradients):
                np.testing.assert_allclose(got, want, atol=2e-5)


def test_the_samples_of_a_row_may_lie_anywhere(qkv, attend):
    order = np.random.default_rng(0).permutation(L)
    shuffled = attend(qkv[:, :, order], SEGMENTS[:, order])
    real = np.asarray(SEGMENTS[:, order] > 0)
    np.testing.assert_allclose(shuffled[real], attend(qkv, SEGMENTS)[:, order][real], atol=2e-6)


def test_a_sample_gets_exactly_no_gradient_from_another(qkv, attend):
    gradients = jax.grad(lambda each: attend(each, SEGMENTS)[0][SEGMENTS[0] == 2].sum())(qkv)
    inside = np.asarray(SEGMENTS[0] == 2)
    np.testing.assert_array_equal(gradients[:, 0][:, ~inside], 0.0)
    np.testing.assert_array_equal(gradients[:, 1], 0.0)
    assert (np.abs(gradients[2, 0, inside]) > 0).all()


def test_what_is_in_the_padding_changes_no_sample(qkv, attend):
    real = SEGMENTS > 0
    other = jnp.where(real[None, :, :, None, None], qkv, 1e4)
    np.testing.assert_array_equal(attend(other, SEGMENTS)[real], attend(qkv, SEGMENTS)[real])


def test_padding_gives_numbers_in_a_row_of_it_and_amid_samples(qkv, attend):
    amid = jnp.where(jnp.arange(L) % 5 == 0, 0, SEGMENTS)
    for ids in (jnp.zeros_like(SEGMENTS), amid):
        found, back = jax.vjp(lambda each, ids=ids: attend(each, ids), qkv)
        assert jnp.isfinite(found).all() and jnp.isfinite(back(found)[0]).all()
    real = np.asarray(amid > 0)
    plain = packed_attention(*qkv, make_plan(amid, "reference"))
    np.testing.assert_allclose(attend(qkv, amid)[real], plain[real], atol=1e-5)


def test_logits_are_float32_for_bfloat16_inputs(qkv, attend):
    found = attend(qkv.astype(jnp.bfloat16), SEGMENTS)
    assert found.dtype == jnp.bfloat16
    real = SEGMENTS > 0
    np.testing.assert_allclose(found[real].astype(jnp.float32), attend(qkv, SEGMENTS)[real], atol=0.05)


def test_rows_of_any_length_go_blocked(qkv):
    short, ids = qkv[:, :, :333], SEGMENTS[:, :333]
    found = packed_attention(*short, make_plan(ids, "blocked"))
    wanted = packed_attention(*short, make_plan(ids, "reference"))
    np.testing.assert_allclose(found[ids > 0], wanted[ids > 0], atol=1e-5)

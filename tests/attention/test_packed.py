"""Every form of packed attention is softmax attention inside each sample, and lets nothing through between two: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.attention import ATTENDED, make_plan, packed_attention, plan, splash

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


def test_a_row_sees_nothing_of_the_next(qkv, attend):
    alone = jnp.ones((B, L), jnp.int32).at[:, 300:].set(0)  # one sample a row, with the same id in both
    other = qkv.at[:, 1].set(7.0)
    np.testing.assert_array_equal(attend(other, alone)[0, :300], attend(qkv, alone)[0, :300])
    gradients = jax.grad(lambda each: attend(each, alone)[0, :300].sum())(qkv)
    np.testing.assert_array_equal(gradients[:, 1], 0.0)


# Blocks of both sizes, parts of both sizes, and several short samples in one block.
@pytest.mark.parametrize("lengths", [(700, 40, 30, 20, 10, 224), (129, 128, 127, 1, 257, 258, 124), (1024,)])
def test_long_and_short_samples_go_blocked(lengths):
    q, k, v, gradient = jax.random.normal(jax.random.key(2), (4, 2, 1024, H, D))
    ids = jnp.array(np.repeat(np.arange(1, len(lengths) + 1), lengths)[None].repeat(2, 0), jnp.int32)
    run = lambda backend: jax.vjp(lambda *qkv: packed_attention(*qkv, make_plan(ids, backend)), q, k, v)
    (found, back), (wanted, wanted_back) = run("blocked"), run("reference")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for got, want in zip(back(gradient), wanted_back(gradient)):
        np.testing.assert_allclose(got, want, atol=5e-5)


def test_rows_of_any_length_go_blocked(qkv):
    short, ids = qkv[:, :, :333], SEGMENTS[:, :333]
    found = packed_attention(*short, make_plan(ids, "blocked"))
    wanted = packed_attention(*short, make_plan(ids, "reference"))
    np.testing.assert_allclose(found[ids > 0], wanted[ids > 0], atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gpu_kernels_lower_to_triton_where_there_is_no_gpu(qkv, dtype):
    def forward(qkv):
        return packed_attention(*qkv, make_plan(SEGMENTS, "triton"))

    def both(qkv):
        out, back = jax.vjp(forward, qkv)
        return back(out)

    kernel = "__gpu$xla.gpu.triton"
    for function, kernels in ((forward, 1), (both, 3)):  # backward one for queries, one for keys
        checks = [jax.export.DisabledSafetyCheck.custom_call(kernel)]
        lowered = jax.export.export(jax.jit(function), platforms=["cuda"], disabled_checks=checks)(qkv.astype(dtype))
        assert lowered.mlir_module().count(f"custom_call @{kernel}") == kernels


@pytest.mark.parametrize("backend", ["blocked", "splash", "triton"])
def test_what_it_has_computed_may_be_kept_and_is_then_not_done_again(qkv, backend):
    attend = lambda qkv: packed_attention(*(2 * qkv), make_plan(SEGMENTS, backend, interpret=True))

    def loops(attend):
        return jax.jit(jax.grad(lambda qkv: jnp.square(jnp.sin(attend(qkv))).sum())).lower(qkv).compile().as_text().count(" while(")

    keep = jax.checkpoint(attend, policy=jax.checkpoint_policies.save_only_these_names(ATTENDED))
    assert loops(keep) == loops(attend) < loops(jax.checkpoint(attend))


def test_gradients_do_not_depend_on_how_much_a_backward_kernel_holds(qkv, monkeypatch):
    monkeypatch.setitem(plan._KERNELS, "splash", (128,))
    qkv = jnp.pad(qkv, ((0, 0), (0, 0), (0, 128), (0, 0), (0, 0)))
    ids = jnp.pad(SEGMENTS, ((0, 0), (0, 128)))
    bytes_of_one = B * (L + 128) * H * D * 4 * 2
    found = {}
    for most, keys in ((0, 0), (bytes_of_one, 256), (10 * bytes_of_one, 128)):
        monkeypatch.setattr(splash, "_FUSED_BYTES", most)
        assert splash.fused_keys(qkv.shape[1:], 4, L + 128, 128) == keys
        attend = lambda qkv: jnp.square(packed_attention(*qkv, make_plan(ids, "splash", interpret=True)) * (ids > 0)[..., None, None]).sum()
        found[keys] = jax.grad(attend)(qkv)
    np.testing.assert_allclose(found[128], found[0], atol=1e-5)
    np.testing.assert_allclose(found[256], found[0], atol=1e-5)

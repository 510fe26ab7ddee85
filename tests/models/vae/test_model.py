"""The autoencoder is causal: no latent knows a later frame, the first frame stands alone, and a still is a video's first frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.layers import from_blocks, to_blocks
from videodit.models.vae.model import VAE, cosine_basis

# By the stride they make: (time, height, width).
CONFIGS = {
    (4, 8, 8): VAEConfig(latent_channels=4, fold=(1, 4, 4), stages=(Stage(width=4, stride=(2, 2, 2)), Stage(width=4, stride=(2, 1, 1)))),
    (8, 8, 8): VAEConfig(latent_channels=3, fold=(8, 8, 8), stages=(Stage(width=4),)),
    (1, 8, 4): VAEConfig(latent_channels=2, fold=(1, 4, 4), decoder_blocks=0, stages=(Stage(width=4, stride=(1, 2, 1)),)),
    (8, 4, 4): VAEConfig(latent_channels=3, fold=(4, 2, 2), decoder_blocks=0, stages=(Stage(width=4, stride=(2, 2, 2)), Stage(width=4))),
}
STRIDES = sorted(CONFIGS)


def trained(stride):
    """(module, params) with no parameter zero because it starts so."""
    module = VAE(CONFIGS[stride])
    t, h, w = stride
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1 + t, h, w, 3), jnp.float32), jax.random.key(0))
    random = np.random.default_rng(0)
    draw = lambda leaf: (
        random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else random.uniform(0.5, 1.5, leaf.shape)
    )
    return module, jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), shapes)


@pytest.fixture(scope="module", params=STRIDES, ids=str)
def vae(request):
    """(stride, encode, decode) of a model, the two of them compiled; `encode` gives the mean."""
    module, params = trained(request.param)
    encode = jax.jit(lambda pixels: module.apply(params, pixels, method="encode")[0])
    return request.param, encode, jax.jit(lambda latents: module.apply(params, latents, method="decode"))


def clip(stride, steps):
    t, h, w = stride
    return jax.random.uniform(jax.random.key(2), (1, 1 + t * steps, 2 * h, 3 * w, 3), minval=-1.0)


def test_shapes_follow_from_the_stride(vae):
    stride, encode, decode = vae
    pixels = clip(stride, 2)
    latents = encode(pixels)
    assert CONFIGS[stride].stride == stride
    assert latents.shape == (1, 3, 2, 3, CONFIGS[stride].latent_channels) and latents.dtype == jnp.float32
    assert decode(latents).shape == pixels.shape


def test_no_latent_has_a_gradient_from_a_later_frame(vae):
    stride, encode, _ = vae
    pixels = clip(stride, 2)
    _, pull = jax.vjp(encode, pixels)
    random = jax.random.normal(jax.random.key(3), encode(pixels).shape)
    for latent in range(3):
        gradient = pull(jnp.zeros_like(random).at[:, latent].set(random[:, latent]))[0][0]
        last = latent * stride[0]
        assert (gradient[last + 1 :] == 0).all()
        assert np.abs(gradient[last]).max() > 0


def test_no_decoded_frame_has_a_gradient_from_a_later_latent(vae):
    stride, encode, decode = vae
    latents = encode(clip(stride, 2))
    pixels, pull = jax.vjp(decode, latents)
    random = jax.random.normal(jax.random.key(3), pixels.shape)
    for frame in (0, 1, stride[0], stride[0] + 1):
        gradient = pull(jnp.zeros_like(random).at[:, frame].set(random[:, frame]))[0][0]
        last = -(-frame // stride[0])
        assert (gradient[last + 1 :] == 0).all()
        assert np.abs(gradient[last]).max() > 0


def test_the_first_frame_stands_alone_and_a_still_is_the_first_frame_of_a_video(vae):
    stride, encode, decode = vae
    pixels = clip(stride, 2)
    latents = encode(pixels)
    still = encode(pixels[:, :1])
    np.testing.assert_allclose(still, latents[:, :1], atol=1e-5)
    np.testing.assert_allclose(decode(still), decode(latents)[:, :1], atol=1e-5)


def test_frames_added_at_the_end_change_no_latent_before_them(vae):
    stride, encode, _ = vae
    pixels = clip(stride, 1)
    held = jnp.concatenate([pixels, jnp.repeat(pixels[:, -1:], 3 * stride[0], axis=1)], axis=1)
    np.testing.assert_allclose(encode(held)[:, :2], encode(pixels), atol=1e-5)


def test_clips_of_a_batch_know_nothing_of_each_other(vae):
    stride, encode, _ = vae
    pixels = jnp.concatenate([clip(stride, 1), -clip(stride, 1)])
    np.testing.assert_allclose(encode(pixels)[1:], encode(pixels[1:]), atol=1e-5)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 4, 4), (4, 8, 8), (2, 2, 4)])
def test_from_blocks_undoes_to_blocks(stride):
    t, h, w = stride
    pixels = np.random.default_rng(0).normal(size=(2, 1 + 2 * t, 2 * h, 3 * w, 5)).astype(np.float32)
    blocks = to_blocks(pixels, stride)
    assert blocks.shape == (2, 3, 2, 3, 5 * t * h * w)
    np.testing.assert_array_equal(from_blocks(blocks, stride), pixels)


@pytest.mark.parametrize("stride", [(1, 4, 4), (4, 8, 8)])
def test_the_cosine_basis_is_orthonormal_and_starts_with_the_mean_brightness(stride):
    basis = cosine_basis(stride, 12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-5)
    assert np.ptp(basis[0]) < 1e-6


def test_a_new_model_gives_back_plain_colours():
    config = VAEConfig(latent_channels=12, fold=(4, 4, 4), stages=(Stage(width=4),))
    pixels = jnp.ones((1, 5, 8, 8, 3)) * jnp.array([0.5, -0.3, 0.1])
    (made, _, _), _ = jax.jit(VAE(config).init_with_output)(jax.random.key(0), pixels, jax.random.key(1))
    np.testing.assert_allclose(made, pixels, atol=0.05)


def test_the_latent_is_drawn_by_the_key_around_the_mean():
    module, params = trained((1, 8, 4))
    pixels = clip((1, 8, 4), 1)
    apply = jax.jit(module.apply)
    found = [apply(params, pixels, jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert np.abs(found[0][0] - found[2][0]).max() > 1e-4
    np.testing.assert_array_equal(found[0][1], found[2][1])


def test_bfloat16_gives_float32_latents_and_pixels():
    config = VAEConfig(latent_channels=2, fold=(1, 2, 2), stages=(Stage(width=8, stride=(2, 2, 2)), Stage(width=8)), dtype="bfloat16")
    out = jax.eval_shape(lambda key: VAE(config).init_with_output(key, jnp.zeros((1, 3, 8, 8, 3)), key)[0], jax.random.key(0))
    assert {each.dtype for each in out} == {jnp.dtype("float32")}


def test_a_stride_that_no_stage_can_take_is_named():
    with pytest.raises(UserError, match=r"\(4, 1, 1\)"):
        Stage(width=8, stride=(4, 1, 1))

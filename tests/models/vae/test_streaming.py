"""Videos in chunks and tiles: chunks equal one pass, tiles are sewn together without a trace of where, and both keep to a budget."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.model import VAE
from videodit.models.vae.streaming import Plan, decode_chunks, encode_chunks, make_plan
from videodit.models.vae.wan import wan_config

CONFIGS = {
    "light 4x8x8": VAEConfig(
        latent_channels=4, fold=(1, 4, 4), stages=(Stage(width=4, stride=(2, 2, 2)), Stage(width=6, stride=(2, 1, 1)), Stage(width=6))
    ),
    "light 8x8x8": VAEConfig(latent_channels=3, fold=(8, 8, 8), stages=(Stage(width=4),)),
    "Wan 2.1": wan_config("2.1", width=4, latent_channels=4, blocks=1),
    "Wan 2.2": wan_config("2.2", width=4, decoder_width=8, latent_channels=4, blocks=1),
}


def random_params(config, seed=0):
    t, h, w = config.stride
    key = jax.random.key(0)
    shapes = jax.eval_shape(VAE(config).init, key, jax.ShapeDtypeStruct((1, 1 + t, h, w, 3), jnp.float32), key)["params"]
    random = np.random.default_rng(seed)

    def draw(leaf):
        if len(leaf.shape) > 1:
            return (random.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)
        return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module", params=CONFIGS)
def vae(request):
    """(module, params, a video, mean and log variance of its latents in one pass, what the mean decodes to in one pass)."""
    config = CONFIGS[request.param]
    module, params = VAE(config), random_params(config)
    t, h, w = config.stride
    video = np.random.default_rng(1).integers(0, 256, (1 + 4 * t, 2 * h, 3 * w, 3)).astype(np.uint8)
    encode = jax.jit(lambda p, x: module.apply({"params": p}, x[None] / 127.5 - 1.0, method="encode"))
    mean, log_variance = (np.asarray(each[0]) for each in encode(params, video.astype(np.float32)))
    pixels = np.asarray(jax.jit(lambda p, z: module.apply({"params": p}, z[None], method="decode")[0])(params, mean))
    return module, params, video, (mean, log_variance), pixels


def plan(chunk, tile=(2, 3)):
    return Plan(chunk=chunk, tile=tile, bytes=0)


def means(module, params, video, by):
    return np.concatenate([mean for mean, _ in encode_chunks(module, params, iter(video), by)])


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_encode_to_what_one_pass_gives(vae, chunk):
    module, params, video, latents, _ = vae
    found = list(encode_chunks(module, params, iter(video), plan(chunk)))
    assert [len(mean) for mean, _ in found] == {1: [1, 1, 1, 1, 1], 3: [1, 3, 1]}[chunk]
    for chunks, whole in zip(zip(*found), latents, strict=True):
        np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5 * max(1.0, np.abs(whole).max()))


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_decode_to_what_one_pass_gives(vae, chunk):
    module, params, video, (latents, _), pixels = vae
    found = np.concatenate(list(decode_chunks(module, params, iter(latents), plan(chunk))))
    assert found.shape == video.shape and found.dtype == np.uint8
    exact = (np.clip(pixels, -1, 1) + 1) * 127.5
    assert np.abs(found - exact).max() <= 0.5 + 127.5 * 1e-5 * max(1.0, np.abs(pixels).max())
    assert found.std() > 10


def test_frames_that_make_no_whole_latent_are_filled_up_with_the_last(vae):
    module, params, video, _, _ = vae
    time = module.config.stride[0]
    short, filled = video[: 2 + time], np.concatenate([video[: 2 + time], np.repeat(video[1 + time : 2 + time], time - 1, axis=0)])
    found, wanted = (means(module, params, each, plan(2)) for each in (short, filled))
    assert len(found) == 3
    np.testing.assert_array_equal(found, wanted)


def new_codec(lapped=False):
    """A new model: its network gives nothing yet, and a block of pixels is coded from itself alone, or with half of its neighbours."""
    config = VAEConfig(latent_channels=6, fold=(2, 4, 4), stages=(Stage(width=4),), lapped=lapped)
    params = VAE(config).init(jax.random.key(0), jnp.zeros((1, 3, 4, 4, 3)), jax.random.key(0))["params"]
    return VAE(config), params


@pytest.mark.parametrize(
    "tile, lapped", [((16, 16), False), ((17, 30), False), ((7, 5), False), ((40, 16), False), ((16, 16), True), ((17, 30), True)]
)
def test_tiles_leave_no_trace_where_the_model_looks_no_further_than_a_tile(tile, lapped):
    module, params = new_codec(lapped)
    video = np.random.default_rng(2).integers(0, 256, (5, 160, 128, 3)).astype(np.uint8)
    whole, tiled = (means(module, params, video, plan(1, each)) for each in ((40, 32), tile))
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    back, tiled = (np.concatenate(list(decode_chunks(module, params, iter(whole), plan(2, each)))) for each in ((40, 32), tile))
    assert np.abs(back.astype(int) - tiled).max() <= 1


def test_where_tiles_meet_one_fades_into_the_next():
    """Two tiles that decode to different greys: from one to the other in small steps, and never a jump."""
    config = CONFIGS["Wan 2.1"]
    module, params = VAE(config), random_params(config)
    flat = np.repeat(np.ones((1, 24, 40, 1), np.float32), 4, axis=-1) * np.linspace(-1, 1, 40, dtype=np.float32)[None, None, :, None]
    found = np.concatenate(list(decode_chunks(module, params, iter(flat), plan(1, (24, 24))))).astype(int)
    jumps = np.abs(np.diff(found[0], axis=1))[32:-32].max(axis=(0, 2))  # by column, away from the upper and lower border
    inside, at_borders = np.sort(jumps[40:100])[-5], jumps[np.r_[126:130, 190:194]].max()
    assert at_borders <= inside + 8


def test_a_plan_keeps_to_its_budget_and_takes_what_it_is_given():
    config = CONFIGS["Wan 2.1"]
    module, params = VAE(config), random_params(config)
    size = (1080, 1920)
    for direction in ("encode", "decode"):
        whole = make_plan(module, params, size, direction, 10**12)
        assert whole.tile == (135, 240) and whole.chunk == 1
        tiled = make_plan(module, params, size, direction, whole.bytes - 1)
        assert tiled.bytes < whole.bytes and tiled.tile < whole.tile
        with pytest.raises(UserError, match=f"0.01 GB are too few to {direction} 1920x1080, expected "):
            make_plan(module, params, size, direction, 10**7)


def test_small_frames_go_through_several_latents_at_once_where_there_is_room():
    module, params = new_codec()
    assert make_plan(module, params, (64, 64), "decode", 10**10).chunk == 4
    assert make_plan(module, params, (64, 64), "decode", 10**6).chunk == 1

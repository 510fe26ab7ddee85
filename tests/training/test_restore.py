"""A trained VAE is a pair of functions between pixels and normalised latents, told apart from any other by its fingerprint."""

import dataclasses

import jax
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.models.vae.wan import wan_config
from videodit.training import restore
from videodit.training.models import VAEModel
from videodit.training.restore import load_vae, trained_vae

MODEL = VAEModel(config=VAEConfig(latent_channels=3, fold=(2, 4, 4), stages=(Stage(width=4),)), loss_config=VAELossConfig())


@pytest.fixture(scope="module")
def vae():
    params = jax.jit(MODEL.init)(jax.random.key(0))
    return trained_vae(MODEL, params, {"mean": np.array([1.0, -2.0, 0.0], np.float32), "square": np.array([2.0, 8.0, 9.0], np.float32)})


PIXELS = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8, 3), np.uint8)


def test_latents_are_normalised_by_the_statistics(vae):
    np.testing.assert_allclose(vae.std, [1.0, 2.0, 3.0])
    plain = trained_vae(MODEL, vae.params, {"mean": np.zeros(3, np.float32), "square": np.ones(3, np.float32)})
    np.testing.assert_allclose(vae.encode(PIXELS), (plain.encode(PIXELS) - vae.mean) / vae.std, atol=1e-5)


def test_normalising_changes_no_reconstruction(vae):
    plain = trained_vae(MODEL, vae.params, {"mean": np.zeros(3, np.float32), "square": np.ones(3, np.float32)})
    found, wanted = vae.decode(vae.encode(PIXELS)), plain.decode(plain.encode(PIXELS))
    assert found.dtype == np.uint8 and found.shape == PIXELS.shape
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_pixels_out_of_range_are_clipped(vae):
    grey = np.float32([1, 0, 0]) * np.ones((1, 1, 2, 2, 1), np.float32)  # the first channel, the same over a block
    assert set(np.unique(vae.decode(1e6 * grey))) == {255} and set(np.unique(vae.decode(-1e6 * grey))) == {0}


@pytest.mark.parametrize(
    "whitening, deviations", [(1.0, [1, 1, 1]), (0.5, [0.75**0.5, 1.5**0.5, 0.75**0.5]), (0.0, [0.5**0.5, 2**0.5, 0.5**0.5])]
)
def test_channels_keep_a_share_of_their_differences_in_variance(whitening, deviations):
    """Of channels with the deviations 1, 2 and 1."""
    model = dataclasses.replace(MODEL, config=dataclasses.replace(MODEL.config, whitening=whitening))
    vae = trained_vae(model, None, {"mean": np.zeros(3, np.float32), "square": np.array([1.0, 4.0, 1.0], np.float32)})
    np.testing.assert_allclose(np.array([1.0, 2.0, 1.0]) / vae.std, deviations, rtol=1e-6)
    np.testing.assert_allclose(np.square(np.array([1.0, 2.0, 1.0]) / vae.std).mean(), 1, rtol=1e-6)


def test_a_channel_that_never_varied_does_not_divide_by_zero(vae):
    still = trained_vae(MODEL, vae.params, {"mean": np.ones(3, np.float32), "square": np.ones(3, np.float32)})
    assert np.isfinite(still.encode(PIXELS)).all()


def test_the_posterior_is_what_encoding_normalises(vae):
    mean, log_variance = vae.posterior(PIXELS)
    assert mean.shape == log_variance.shape == (1, 2, 2, 2, 3)
    np.testing.assert_array_equal((mean - vae.mean) / vae.std, vae.encode(PIXELS))
    wanted = MODEL.module.apply({"params": vae.params}, PIXELS / np.float32(127.5) - 1, method="encode")
    for found, each in zip((mean, log_variance), wanted, strict=True):
        np.testing.assert_allclose(found, each, atol=1e-5)


@pytest.mark.parametrize("blocks", ["light", "full"])
def test_what_memory_has_no_room_for_in_one_pass_goes_in_chunks_and_is_the_same(monkeypatch, blocks):
    config = VAEConfig(latent_channels=3, fold=(2, 4, 4), stages=(Stage(width=4),)) if blocks == "light" else wan_config(width=4, blocks=1)
    model = VAEModel(config=config, loss_config=VAELossConfig())
    params = jax.jit(model.init)(jax.random.key(0))
    noise = lambda leaf: 0.05 * np.random.default_rng(leaf.size).standard_normal(leaf.shape, np.float32)
    params = jax.tree.map(lambda leaf: leaf + noise(leaf), params)  # zeros would hide much
    vae = trained_vae(model, params, {"mean": np.full(config.latent_channels, 0.1), "square": np.full(config.latent_channels, 0.5)})
    clips = np.random.default_rng(1).integers(0, 256, (2, 9, 16, 24, 3), np.uint8)
    moments = vae.posterior(clips)
    latents, pixels = vae.encode(clips), vae.decode(vae.encode(clips))
    monkeypatch.setattr(restore, "_compiled", lambda *_: (None, 10**18))  # one pass would need an exabyte
    for found, wanted in zip((*vae.posterior(clips), vae.encode(clips)), (*moments, latents), strict=True):
        assert found.dtype == wanted.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-5 * max(1.0, np.abs(wanted).max()))
    assert np.abs(vae.decode(latents).astype(int) - pixels).max() <= 1


def test_the_fingerprint_is_of_weights_and_statistics(vae):
    same = trained_vae(MODEL, jax.tree.map(np.asarray, vae.params), {"mean": vae.mean, "square": np.array([2.0, 8.0, 9.0], np.float32)})
    assert same.fingerprint == vae.fingerprint and len(vae.fingerprint) == 64
    assert dataclasses.replace(vae, std=vae.std * 2).fingerprint != vae.fingerprint


def test_a_vae_is_loaded_with_its_average_and_statistics(tiny_latents):
    vae = load_vae(tiny_latents / "vae")
    assert vae.fingerprint == load_vae(tiny_latents / "vae").fingerprint
    assert vae.encode(np.zeros((1, 5, 16, 24, 3), np.uint8)).shape == (1, 2, 2, 3, 6)
    assert (vae.std > 0).all()


def test_a_workdir_without_a_vae_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a workdir"):
        load_vae(tmp_path)

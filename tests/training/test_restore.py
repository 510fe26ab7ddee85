"""A trained VAE is a pair of functions between pixels and normalised latents, told apart from any other by its fingerprint."""

import dataclasses

import jax
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.losses import VAELossConfig
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
    assert {0, 255} >= set(np.unique(vae.decode(np.full((1, 1, 2, 2, 3), 1e6, np.float32)))) | set(
        np.unique(vae.decode(np.full((1, 1, 2, 2, 3), -1e6, np.float32)))
    )


def test_a_channel_that_never_varied_does_not_divide_by_zero(vae):
    still = trained_vae(MODEL, vae.params, {"mean": np.ones(3, np.float32), "square": np.ones(3, np.float32)})
    assert np.isfinite(still.encode(PIXELS)).all()


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

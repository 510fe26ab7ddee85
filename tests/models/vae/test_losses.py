"""The VAE's loss is what its config weighs."""

import jax.numpy as jnp
import numpy as np

from videodit.models.vae.losses import VAELossConfig, vae_loss


def test_the_loss_is_the_weighted_sum_of_its_parts():
    pixels = jnp.zeros((1, 1, 2, 2, 3))
    loss, parts = vae_loss(
        VAELossConfig(l1=2.0, l2=3.0, kl=0.5), pixels, pixels + 0.2, jnp.ones((1, 1, 1, 1, 4)), jnp.zeros((1, 1, 1, 1, 4))
    )
    np.testing.assert_allclose((parts["l1"], parts["l2"], parts["kl"]), (0.2, 0.04, 0.5), rtol=1e-5)
    np.testing.assert_allclose(loss, 2 * 0.2 + 3 * 0.04 + 0.5 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(parts["psnr_db"], 20.0, rtol=1e-5)  # an error of a tenth of the range


def test_a_standard_normal_latent_costs_no_kl():
    zeros = jnp.zeros((1, 1, 1, 1, 4))
    assert vae_loss(VAELossConfig(), jnp.zeros((1, 1, 1, 1, 3)), jnp.ones((1, 1, 1, 1, 3)), zeros, zeros)[1]["kl"] == 0


def test_the_gradient_sees_flicker_and_seams_that_a_squared_error_does_not():
    """Errors of one size everywhere: an even one, one that changes sign from frame to frame, and one from column to column."""
    pixels, latent = jnp.zeros((1, 4, 4, 4, 3)), jnp.zeros((1, 1, 1, 1, 4))
    sign = jnp.array([1.0, -1.0, 1.0, -1.0])
    told = lambda error: vae_loss(VAELossConfig(l1=0.0, l2=1.0, gradient=0.5, kl=0.0), pixels, pixels + 0.1 * error, latent, latent)
    (even, _), (flicker, in_time), (seams, _) = map(told, (1.0, sign[None, :, None, None, None], sign[None, None, None, :, None]))
    np.testing.assert_allclose(even, 0.01, rtol=1e-5)
    np.testing.assert_allclose((flicker, seams), 0.01 + 0.5 * 0.2, rtol=1e-5)
    np.testing.assert_allclose(in_time["gradient"], 0.2, rtol=1e-5)


def test_an_image_has_no_gradient_in_time():
    pixels, latent = jnp.zeros((1, 1, 4, 4, 3)), jnp.zeros((1, 1, 1, 1, 4))
    _, parts = vae_loss(VAELossConfig(gradient=1.0), pixels, pixels + 0.1, latent, latent)
    assert parts["gradient"] == 0

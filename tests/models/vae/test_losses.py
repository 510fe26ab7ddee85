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

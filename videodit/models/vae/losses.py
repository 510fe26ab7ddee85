"""What a VAE is trained on."""

from dataclasses import dataclass

import jax.numpy as jnp


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of absolute error, squared error and KL (per pixel channel), as summed in the loss."""

    l1: float = 1.0
    l2: float = 1.0
    kl: float = 1e-4


def vae_loss(config: VAELossConfig, pixels, reconstruction, mean, log_variance):
    """The loss and its parts. Pixels are in [-1, 1]; `psnr_db` is of the batch, against the full range of 2.

    Kingma and Welling (2014), eq. 10, with weighted absolute and squared error for the likelihood.
    """
    error = reconstruction - pixels
    l1, l2 = jnp.abs(error).mean(), jnp.square(error).mean()
    kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance).mean()
    loss = config.l1 * l1 + config.l2 * l2 + config.kl * kl
    return loss, {"l1": l1, "l2": l2, "kl": kl, "psnr_db": -10.0 * jnp.log10(l2 / 4.0)}

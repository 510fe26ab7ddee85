"""What a VAE is trained on: the likelihood of its pixels, the rate of its latents, how it looks, and what a discriminator says."""

from dataclasses import dataclass, field

from etils import epath
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError
from videodit.models.vae.discriminator import AdversarialConfig
from videodit.models.vae.perceptual import Weights, load_weights, lpips


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """LPIPS, by `weight`. It is off where no weights are given: `network` (VGG16 or AlexNet) and `heads` are paths of safetensors files,
    which `models/vae/perceptual.py` says how to make."""

    weight: float = 1.0
    network: str = ""
    heads: str = ""

    def __post_init__(self):
        if bool(self.network) != bool(self.heads):
            raise UserError(f"LPIPS has network={self.network!r} and heads={self.heads!r}: expected the paths of both, or of neither")

    @property
    def on(self) -> bool:
        return bool(self.network) and self.weight > 0

    def load(self) -> dict[str, np.ndarray] | None:
        """The weights, or None where it is off. Raises UserError as `load_weights` does."""
        return load_weights(epath.Path(self.network), epath.Path(self.heads)) if self.on else None


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of what is summed in the loss.

    `l1`, `l2`: absolute and squared error of pixels in [-1, 1], means over them. `gradient`: absolute error of the steps from a pixel to
    the next one in height, width and time, which sees blurred edges and flicker where a squared error does not (Mathieu et al., "Deep
    multi-scale video prediction beyond mean square error", 2016, section 3.2): means over them, added up. `kl`: of the latents from a
    standard normal distribution, in nats, mean over them. `perceptual`: LPIPS, mean over frames. `adversarial`: a discriminator's
    judgement.
    """

    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 0.0
    kl: float = 1e-4
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)


def reconstruction_loss(config: VAELossConfig, pixels, reconstruction, perceptual: Weights | None = None):
    """The part of the loss that compares pixels, in [-1, 1], and its parts; `perceptual` is what `config.perceptual.load()` gave.

    `psnr_db` is of the batch, against the full range of 2.
    """
    error = reconstruction - pixels
    l1, l2 = jnp.abs(error).mean(), jnp.square(error).mean()
    loss, parts = config.l1 * l1 + config.l2 * l2, {"l1": l1, "l2": l2, "psnr_db": -10.0 * jnp.log10(l2 / 4.0)}
    if config.gradient:
        steps = (jnp.diff(error, axis=axis) for axis in (1, 2, 3) if error.shape[axis] > 1)
        parts["gradient"] = sum(jnp.abs(each).mean() for each in steps)
        loss += config.gradient * parts["gradient"]
    if perceptual is not None:
        parts["lpips"] = lpips(perceptual, reconstruction, pixels).mean()
        loss += config.perceptual.weight * parts["lpips"]
    return loss, parts


def kl_of_channels(mean, log_variance):
    """`[..., C]` twice -> `[C]`, the mean KL divergence of each latent channel from a standard normal distribution, in nats.

    Kingma and Welling (2014), appendix B. A channel of almost none carries nothing.
    """
    each = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    return each.mean(tuple(range(mean.ndim - 1)))


def vae_loss(config: VAELossConfig, pixels, reconstruction, mean, log_variance, perceptual: Weights | None = None):
    """The loss without an adversary, and its parts. Kingma and Welling (2014), eq. 10, with `reconstruction_loss` for the likelihood."""
    loss, parts = reconstruction_loss(config, pixels, reconstruction, perceptual)
    kl = kl_of_channels(mean, log_variance).mean()
    return loss + config.kl * kl, parts | {"kl": kl}

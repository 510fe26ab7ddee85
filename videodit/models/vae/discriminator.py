"""A discriminator of patches of space-time, and the game that it plays with the VAE.

Each output judges the pixels around it alone (PatchGAN, Isola et al., 2017, section 3.2.2), in time as well as in space: it sees flicker as
well as blur. It looks both ways in time, since it plays no part in decoding.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.models.vae.conv import convolve


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """A game against a discriminator: off where `weight` is 0.

    `weight`: of the discriminator's judgement in the VAE's loss, on top of the adaptive weight where `adaptive` (`adaptive_weight`).
    `start`: steps after which both begin to play; until then the discriminator stands still and costs no time. `width`: channels of its
    first layer, which double with each of `layers` layers up to 8 times as many. `learning_rate`: of its own Adam, the same all along.
    """

    weight: float = 0.0
    start: int = 0
    adaptive: bool = True
    width: int = 64
    layers: int = 3
    learning_rate: float = 1e-4

    def __post_init__(self):
        if self.weight < 0 or self.start < 0:
            raise UserError(f"an adversarial loss of weight {self.weight} from step {self.start} on: expected 0 or more of both")
        if self.width < 1 or self.layers < 1:
            raise UserError(f"a discriminator of {self.layers} layers from width {self.width} on: expected 1 or more of both")


class Discriminator(nn.Module):
    """float `[B, T, H, W, 3]` in [-1, 1], of any size and length -> float32 judgements `[B, T', H', W', 1]`, higher for what looks real.

    Each layer halves height and width, and all but the first the frames; odd sizes round up. An image is a video of one frame.
    """

    config: AdversarialConfig

    @nn.compact
    def __call__(self, pixels):
        x = pixels
        for number in range(self.config.layers):
            width = self.config.width * min(2**number, 8)
            x = _Conv(width, (3, 4, 4), (1 if number == 0 else 2, 2, 2), name=f"conv{number}")(x)
            x = nn.leaky_relu(x if number == 0 else nn.RMSNorm(name=f"norm{number}")(x), 0.2)
        x = nn.leaky_relu(nn.RMSNorm(name="norm_out")(_Conv(x.shape[-1], (3, 3, 3), name="conv_middle")(x)), 0.2)
        return _Conv(1, (1, 3, 3), name="conv_out")(x)


class _Conv(nn.Module):
    """A convolution that pads evenly with zeros and gives sizes divided by `stride`, rounded up."""

    features: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int] = (1, 1, 1)

    @nn.compact
    def __call__(self, x):
        shape = (*self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        padding = [_even(size, k, s) for size, k, s in zip(x.shape[1:4], self.kernel, self.stride)]
        x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
        return convolve(x, kernel, stride=self.stride, padding=tuple(padding[1:])) + bias


def _even(size: int, kernel: int, stride: int) -> tuple[int, int]:
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def hinge_losses(of_real, of_made):
    """The discriminator's hinge loss of its judgements, and the VAE's of the latter (Lim and Ye, 2017; VQGAN, Esser et al., 2021)."""
    return 0.5 * (jax.nn.relu(1.0 - of_real).mean() + jax.nn.relu(1.0 + of_made).mean()), -of_made.mean()


MOST_WEIGHT = 1e4  # as in VQGAN's code


def adaptive_weight(likelihood_gradient, adversarial_gradient):
    """How many times the adversarial gradient is to be taken to weigh as much as that of the reconstruction loss, at most `MOST_WEIGHT`.

    Both are of the decoder's last kernel (VQGAN, Esser et al., 2021, eq. 7).
    """
    norm = lambda gradient: jnp.sqrt(jnp.square(gradient).sum())
    return jnp.minimum(norm(likelihood_gradient) / (norm(adversarial_gradient) + 1e-6), MOST_WEIGHT)

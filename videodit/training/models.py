"""The two models as the train step sees them: what is initialised, what the loss is, what a step is owed in FLOPs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.segments import PATCH, TEXT, spread
from videodit.diffusion.process import ProcessConfig, corrupt, draw_noise_levels, flow_loss, to_velocity
from videodit.models.dit.model import DiT, DiTConfig, forward_flops, init_parameters
from videodit.models.dit.sharding import AXES as DIT_AXES
from videodit.models.dit.sizes import OF_WIDTH as DIT_OF_WIDTH
from videodit.models.vae.config import VAEConfig
from videodit.models.vae.losses import VAELossConfig, kl_of_channels, vae_loss
from videodit.models.vae.model import VAE
from videodit.models.vae.sharding import AXES as VAE_AXES


def to_float_pixels(pixels: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


def latent_statistics(mean, log_variance) -> dict[str, jax.Array]:
    """The mean and mean square of each latent channel's mean, and its KL divergence in nats: `[C]` each."""
    axes = tuple(range(mean.ndim - 1))
    return {"mean": mean.mean(axes), "square": jnp.square(mean).mean(axes), "kl": kl_of_channels(mean, log_variance)}


@dataclass(frozen=True, kw_only=True)
class VAEModel:
    """The VAE. Its statistics are `latent_statistics` over training."""

    config: VAEConfig
    loss_config: VAELossConfig

    axes = VAE_AXES

    @property
    def module(self) -> VAE:
        return VAE(self.config)

    def init(self, key):
        t, h, w = self.config.stride
        return self.module.init(key, jnp.zeros((1, 1 + t, h, w, 3)), key)["params"]

    def statistics(self):
        zeros = jnp.zeros(self.config.latent_channels)
        return {"mean": zeros, "square": zeros + 1.0, "kl": zeros}

    def loss(self, params, batch, key):
        pixels = to_float_pixels(batch["pixels"])
        reconstruction, mean, log_variance = self.module.apply({"params": params}, pixels, key)
        loss, metrics = vae_loss(self.loss_config, pixels, reconstruction, mean, log_variance, batch.get("perceptual"))
        return loss, (metrics, latent_statistics(mean, log_variance))


@dataclass(frozen=True, kw_only=True)
class DiTModel:
    """The packed transformer under its process."""

    config: DiTConfig
    process: ProcessConfig
    latent_channels: int
    vocabulary: int

    axes = DIT_AXES
    of_width = DIT_OF_WIDTH

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def patch_channels(self) -> int:
        return int(np.prod(self.config.patch)) * self.latent_channels

    @property
    def module(self) -> DiT:
        return DiT(self.config, self.patch_channels, self.vocabulary)

    def init(self, key):
        return init_parameters(self.module, key)

    def statistics(self):
        return {}

    def loss(self, params, batch, key):
        """Flow loss, the weighted mean over the batch's noised patch tokens. Text and known tokens are at noise level 0 and not counted."""
        level_key, known_key, noise_key = jax.random.split(key, 3)
        rows, length = batch["segment_ids"].shape
        level = draw_noise_levels(level_key, batch["segment_ids"], batch["extent"], self.process)
        unknown = batch["modality"] == PATCH
        if self.process.first_frame_odds > 0:
            given = spread(jax.random.bernoulli(known_key, self.process.first_frame_odds, (rows, length)), batch["segment_ids"])
            unknown &= ~(given & (batch["positions"][..., 0] == 0) & (batch["extent"][..., 0] > 1))
        level = level * unknown
        noise = jax.random.normal(noise_key, batch["patches"].shape)
        noised = corrupt(batch["patches"], noise, level)
        velocity = to_velocity(self.module.apply({"params": params}, noised, level, batch), noised, level, self.process)
        total, weight = flow_loss(velocity, batch["patches"], noise, level, unknown, batch["segment_ids"], self.process)
        return total / jnp.maximum(weight, 1), ({}, {})

    def work(self, batch) -> dict[str, float]:
        """What a batch on the host asks for: real text and patch tokens, slots, and the FLOPs that a training step owes for them."""
        text, patches = float((batch["modality"] == TEXT).sum()), float((batch["modality"] == PATCH).sum())
        pairs = float(sum((np.bincount(row)[1:].astype(np.float64) ** 2).sum() for row in batch["segment_ids"]))
        flops = 3 * forward_flops(self.config, self.patch_channels, text, patches, pairs)
        return {"tokens": text + patches, "slots": float(batch["segment_ids"].size), "flops": flops}

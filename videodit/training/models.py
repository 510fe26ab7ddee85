"""The two models as the train step sees them: what is initialised, what the loss is, what a step is owed in FLOPs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.segments import PATCH, TEXT, spread, text_name
from videodit.diffusion.known import GENERATE, TASKS, draw_known
from videodit.diffusion.process import ProcessConfig, corrupt, draw_noise_levels, flow_loss, to_velocity
from videodit.models.dit.model import DiT, DiTConfig, forward_flops, init_parameters
from videodit.models.dit.sharding import AXES as DIT_AXES
from videodit.models.dit.sharding import hidden_matrices as dit_hidden
from videodit.models.dit.sizes import OF_WIDTH as DIT_OF_WIDTH
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.embedder import forward_flops as text_flops
from videodit.models.vae.config import VAEConfig
from videodit.models.vae.losses import VAELossConfig, kl_of_channels, vae_loss
from videodit.models.vae.model import VAE
from videodit.models.vae.sharding import AXES as VAE_AXES
from videodit.models.vae.sharding import hidden_matrices as vae_hidden


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
    hidden_matrices = staticmethod(vae_hidden)

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
    text: TextEmbedderConfig

    axes = DIT_AXES
    of_width = DIT_OF_WIDTH
    hidden_matrices = staticmethod(dit_hidden)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def patch_channels(self) -> int:
        return int(np.prod(self.config.patch)) * self.latent_channels

    @property
    def module(self) -> DiT:
        return DiT(self.config, self.patch_channels, self.text)

    def init(self, key):
        return init_parameters(self.module, key)

    def statistics(self):
        return {}

    def loss(self, params, batch, key):
        """Flow loss, the weighted mean over the batch's noised patch tokens. Text and known tokens are at noise level 0 and not counted."""
        total, sums = self.loss_sum(params, self.draw(batch, key))
        return total / jnp.maximum(sums["weight"], 1), (self.metrics(sums), {})

    def draw(self, batch, key):
        """The batch with what is random in its loss: `level`, `noise`, which tokens are to be made, `unknown`, and each clip's `task`."""
        level_key, known_key, noise_key = jax.random.split(key, 3)
        rows, length = batch["segment_ids"].shape
        level = draw_noise_levels(level_key, batch["segment_ids"], batch["extent"], self.process)
        patch, known = batch["modality"] == PATCH, self.process.known
        given, task = draw_known(known_key, batch["segment_ids"], batch["positions"], batch["extent"], known)
        of_given = spread(known.noise * jax.random.uniform(jax.random.fold_in(level_key, 1), (rows, length)), batch["segment_ids"])
        noise = jax.random.normal(noise_key, batch["patches"].shape)
        return dict(batch) | {"level": jnp.where(given, of_given, level) * patch, "noise": noise, "unknown": patch & ~given, "task": task}

    def loss_sum(self, params, drawn):
        """Of rows that `draw` has given: the sum whose quotient by `weight` is their loss, and sums that tell it by task. All add up over
        rows."""
        patches, noise, level = drawn["patches"], drawn["noise"], drawn["level"]
        noised = corrupt(patches, noise, level)
        velocity = to_velocity(self.module.apply({"params": params}, noised, level, drawn), noised, level, self.process)
        error, share = flow_loss(velocity, patches, noise, level, drawn["unknown"], drawn["segment_ids"], self.process)
        of = {name: drawn["task"] == TASKS.index(name) for name in self._tasks}
        return error.sum(), {"weight": share.sum(), "of": {name: ((error * each).sum(), (share * each).sum()) for name, each in of.items()}}

    def metrics(self, sums):
        """The loss by task, of `loss_sum`'s sums; of a task that no clip of the step has, no number."""
        return {f"loss/{name}": total / weight for name, (total, weight) in sums["of"].items()}

    @property
    def _tasks(self) -> list[str]:
        found = [name for name, odds in self.process.known.odds.items() if odds > 0]
        return [GENERATE, *found] if found else []

    def work(self, batch) -> dict[str, float]:
        """What a batch on the host asks for: real text and patch tokens, slots, and the FLOPs that a training step owes for them."""
        text, patches = float((batch["modality"] == TEXT).sum()), float((batch["modality"] == PATCH).sum())
        pairs = _pairs(batch["segment_ids"])
        flops = 3 * (forward_flops(self.config, self.patch_channels, text, patches, pairs) + self._text_flops(batch))
        return {"tokens": text + patches, "slots": float(batch["segment_ids"].size), "flops": flops}

    def _text_flops(self, batch) -> float:
        """What the text is owed before it stands in the rows."""
        ids = batch["text_segment_ids"]
        ends = np.cumsum([batch[text_name(part)].shape[1] for part in range(len(self.text.parts))])
        tokens = [float((part > 0).sum()) for part in np.split(ids, ends[:-1], axis=1)]
        return text_flops(self.text, self.config.width, tokens, _pairs(ids))


def _pairs(segment_ids: np.ndarray) -> float:
    """(Query, key) pairs inside segments."""
    return float(sum((np.bincount(row)[1:].astype(np.float64) ** 2).sum() for row in segment_ids))

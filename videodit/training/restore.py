"""Trained models as plain functions, read from a workdir."""

from dataclasses import dataclass
import functools
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.config import read_config
from videodit.sharding.rules import path_name
from videodit.training.checkpoint_contents import fingerprint
from videodit.training.checkpoints import restore_weights
from videodit.training.config import read_experiment
from videodit.training.jobs import vae_model
from videodit.training.models import VAEModel, to_float_pixels


# Compiled once a model and shape, whoever asks and with whatever weights.
@functools.partial(jax.jit, static_argnums=0)
def _encode(model: VAEModel, params, mean, std, pixels):
    return (model.module.apply({"params": params}, to_float_pixels(pixels), method="encode")[0] - mean) / std


@functools.partial(jax.jit, static_argnums=0)
def _decode(model: VAEModel, params, mean, std, latents):
    pixels = model.module.apply({"params": params}, latents * std + mean, method="decode")
    return jnp.round((jnp.clip(pixels, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


@dataclass(frozen=True, kw_only=True)
class TrainedVAE:
    """A VAE's averaged weights with the statistics of its latents."""

    model: VAEModel
    params: Any
    mean: np.ndarray
    std: np.ndarray

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights and statistics; 64 hex digits."""
        leaves = jax.tree_util.tree_leaves_with_path({"params": self.params, "mean": self.mean, "std": self.std})
        return fingerprint(sorted(((path_name(path), np.asarray(leaf)) for path, leaf in leaves), key=lambda pair: pair[0]))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[B, T, H, W, 3]` -> float32 `[B, T', H', W', C]` of about zero mean and unit variance a channel."""
        return np.asarray(_encode(self.model, self.params, self.mean, self.std, pixels))

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """What `encode` gives -> uint8 `[B, T, H, W, 3]`."""
        return np.asarray(_decode(self.model, self.params, self.mean, self.std, latents))


def trained_vae(model: VAEModel, params: Any, statistics: dict[str, Any]) -> TrainedVAE:
    """A TrainedVAE of weights and running statistics."""
    mean, square = np.asarray(statistics["mean"]), np.asarray(statistics["square"])
    std = np.sqrt(np.maximum(square - mean**2, 1e-6)).astype(np.float32)
    return TrainedVAE(model=model, params=params, mean=mean, std=std)


def load_vae(workdir: epath.PathLike) -> TrainedVAE:
    """The VAE of a workdir. Raises UserError where it holds none."""
    config = read_experiment(read_config(workdir))
    weights, _ = restore_weights(workdir)
    return trained_vae(vae_model(config), weights["ema"], weights["statistics"])

"""What the loop needs to know of a job: its model, its data, the work in a batch, and the pictures it shows while it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from etils import epath
import grain
import jax
import jax.numpy as jnp
import numpy as np

from videodit.data.dataset import ClipDataset
from videodit.data.latents import TOKENIZER, LatentDataset
from videodit.data.pipeline import VAEBatches, packed_batches, vae_batches
from videodit.models.text.tokenizer import Tokenizer
from videodit.training.config import ExperimentConfig, dataset_path, latents_path
from videodit.training.models import DiTModel, VAEModel


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job. `work` gives what a host batch asks for: `tokens` (or clips), `slots` and `flops` of the step.

    `pictures(state, directory)` writes what the model makes now. `device_features`: what of a batch the step reads.
    """

    model: Any
    batches: grain.DatasetIterator
    unit: str
    work: Callable[[Mapping[str, np.ndarray]], dict[str, float]]
    device_features: tuple[str, ...]
    pictures: Callable[[Any, epath.Path], None]


def make_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    """The job that `config.model` names."""
    return {"vae": _vae_job, "dit": _dit_job}[config.model](config, workdir)


def vae_model(config: ExperimentConfig) -> VAEModel:
    """The VAE of a config."""
    return VAEModel(config=config.vae, loss_config=config.vae_training.loss)


def _vae_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    from videodit.evaluation.reconstruction import write_reconstructions

    settings, model, directory = config.vae_training, vae_model(config), dataset_path(config, workdir)
    source = VAEBatches(
        ClipDataset(directory),
        settings.policy,
        settings.batch,
        settings.max_buckets,
        config.train.seed,
        cache_bytes=settings.cache_mb * 10**6,
    )
    params = jax.eval_shape(model.init, jax.random.key(0))
    flops: dict[tuple[int, ...], float] = {}

    def work(batch):
        shape = batch["pixels"].shape
        if shape not in flops:  # as XLA counts the forward pass, times three for training
            forward = jax.jit(lambda p, x: model.module.apply({"params": p}, x, jax.random.key(0)))
            flops[shape] = 3 * forward.lower(params, jax.ShapeDtypeStruct(shape, jnp.float32)).cost_analysis()["flops"]
        return {"tokens": float(shape[0]), "slots": float(shape[0]), "flops": flops[shape]}

    return Job(
        model=model,
        batches=vae_batches(source, config.train.threads),
        unit="clips",
        work=work,
        device_features=("pixels",),
        pictures=lambda state, to: write_reconstructions(config, directory, model, state["ema"], to),
    )


def dit_model(config: ExperimentConfig, latent_channels: int, vocabulary: int) -> DiTModel:
    """The transformer of a config, for latents and a tokenizer."""
    return DiTModel(config=config.dit, process=config.process, latent_channels=latent_channels, vocabulary=vocabulary)


def _dit_job(config: ExperimentConfig, workdir: epath.Path) -> Job:
    from videodit.generation.sample import write_training_samples

    latents = LatentDataset(latents_path(config, workdir))
    tokenizer = Tokenizer((latents_path(config, workdir) / TOKENIZER).read_bytes())
    model = dit_model(config, latents.channels, tokenizer.size)
    batches = packed_batches(latents, config.packing, config.dit.patch, tokenizer.encode, config.train.seed, config.train.threads)
    return Job(
        model=model,
        batches=batches,
        unit="tokens",
        work=model.work,
        device_features=("patches", "text_ids", "modality", "segment_ids", "positions", "extent"),
        pictures=lambda state, to: write_training_samples(config, workdir, state["ema"], to),
    )

"""Trained models as plain functions, read from a workdir."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
import functools
import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.config import read_config
from videodit.core.errors import UserError
from videodit.core.memory import free_bytes
from videodit.models.dit.interchange import import_dit
from videodit.models.vae.config import VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.models.vae.streaming import Moments, decode_chunks, encode_chunks, make_plan
from videodit.models.vae.wan import is_wan, load_wan
from videodit.sharding.rules import path_name
from videodit.training.checkpoint_contents import fingerprint
from videodit.training.checkpoints import restore_weights
from videodit.training.config import read_experiment
from videodit.training.jobs import vae_model
from videodit.training.models import DiTModel, VAEModel, to_float_pixels


def moments(model: VAEModel, params, pixels):
    """uint8 `[B, T, H, W, 3]` -> mean and log variance side by side, float32 `[B, T', H', W', 2 C]`."""
    return jnp.concatenate(model.module.apply({"params": params}, to_float_pixels(pixels), method="encode"), axis=-1)


def _decode(model: VAEModel, params, latents):
    pixels = model.module.apply({"params": params}, latents, method="decode")
    return jnp.round((jnp.clip(pixels, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)


# Compiled once a model and shape, whoever asks and with whatever weights.
@functools.lru_cache(maxsize=256)
def _compiled(function: Callable, model: VAEModel, x: jax.ShapeDtypeStruct) -> tuple[Callable, int]:
    """The function for arrays like `x`, and the bytes that it needs beside them and the weights."""
    weights = jax.eval_shape(model.init, jax.random.key(0))
    made = jax.jit(functools.partial(function, model)).lower(weights, x).compile()
    told = made.memory_analysis()
    return made, told.temp_size_in_bytes + told.output_size_in_bytes


@dataclass(frozen=True, kw_only=True)
class TrainedVAE:
    """A VAE's averaged weights with the mean of its latents and what their channels are divided by."""

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
        """uint8 `[B, T, H, W, 3]` -> float32 `[B, T', H', W', C]` of about zero mean and, over its channels, unit variance.

        In one pass where memory has room for it, else clip by clip in chunks and tiles.
        """
        return (self.posterior(pixels)[0] - self.mean) / self.std

    def posterior(self, pixels: np.ndarray) -> Moments:
        """Mean and log variance, float32 `[B, T', H', W', C]` each, of what `encode` takes, in the memory that it takes; not normalised."""
        stream = lambda clip, size: (np.concatenate(each, axis=-1) for each in self._posterior_stream(clip, size))
        mean, log_variance = np.split(self._all(moments, stream, np.asarray(pixels, np.uint8)), 2, axis=-1)
        return mean, log_variance

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """What `encode` gives -> uint8 `[B, T, H, W, 3]`; in one pass where memory has room for it."""
        return self._all(_decode, self._pixel_stream, np.asarray(latents, np.float32) * self.std + self.mean)

    def _all(self, function: Callable, stream: Callable, x: np.ndarray) -> np.ndarray:
        run, needed = _compiled(function, self.model, jax.ShapeDtypeStruct(x.shape, x.dtype))
        if needed <= 0.75 * free_bytes():
            return np.asarray(run(self.params, x))
        return np.stack([np.concatenate(list(stream(clip, clip.shape[1:3]))) for clip in x])

    def encode_stream(self, frames: Iterable[np.ndarray], size: tuple[int, int], budget: int | None = None) -> Iterator[np.ndarray]:
        """Latents as `encode` gives them, `[n, H', W', C]` at a time, of one video's frames `[H, W, 3]`, of `size`, as they come.

        `budget`: bytes of device memory to stay in, by default three quarters of what is free.
        """
        for mean, _ in self._posterior_stream(frames, size, budget):
            yield (mean - self.mean) / self.std

    def decode_stream(self, latents: Iterable[np.ndarray], size: tuple[int, int], budget: int | None = None) -> Iterator[np.ndarray]:
        """Frames, uint8 `[n, H, W, 3]` at a time, of one video's latents `[H', W', C]`, of `size`, as they come."""
        return self._pixel_stream((each * self.std + self.mean for each in latents), size, budget)

    def _posterior_stream(self, frames: Iterable[np.ndarray], size: tuple[int, int], budget: int | None = None) -> Iterator[Moments]:
        plan = make_plan(self.model.module, self.params, size, "encode", budget)
        return encode_chunks(self.model.module, self.params, frames, plan)

    def _pixel_stream(self, latents: Iterable[np.ndarray], size: tuple[int, int], budget: int | None = None) -> Iterator[np.ndarray]:
        """Of latents that are not normalised."""
        _, h, w = self.model.config.stride
        plan = make_plan(self.model.module, self.params, (size[0] * h, size[1] * w), "decode", budget)
        return decode_chunks(self.model.module, self.params, latents, plan)


def trained_vae(model: VAEModel, params: Any, statistics: dict[str, Any]) -> TrainedVAE:
    """A TrainedVAE of weights and running statistics, its latents scaled as `VAEConfig.whitening` says."""
    mean, square = (np.asarray(statistics[name], np.float32) for name in ("mean", "square"))
    std = np.sqrt(np.maximum(square - mean**2, 1e-6))
    left = std ** (1 - model.config.whitening)  # the deviations that channels are left with
    std = std / left * np.sqrt(np.square(left).mean())
    return TrainedVAE(model=model, params=params, mean=mean, std=std)


def load_vae(place: epath.PathLike) -> TrainedVAE:
    """The VAE of a workdir, or public weights: a Wan VAE's safetensors file, or the directory that diffusers keeps it in (`models/vae`).

    Raises UserError where it is neither.
    """
    if is_wan(place):
        if not epath.Path(place).exists():
            raise UserError(f"{os.fspath(place)!r} does not exist, expected a Wan VAE's safetensors file")
        config, params, mean, std = load_wan(place)
        return TrainedVAE(model=VAEModel(config=config, loss_config=VAELossConfig()), params=params, mean=mean, std=std)
    config = read_experiment(read_config(place))
    weights, _ = restore_weights(place)
    return trained_vae(vae_model(config), weights["ema"], weights["statistics"])


def load_start(place: epath.PathLike, config: VAEConfig) -> Any:
    """The parameters of the VAE at `place`, as `load_vae` takes it, for one of `config` that is trained on; computing types may differ.

    Raises UserError where its form is another.
    """
    vae = load_vae(place)
    found, wanted = ({name: getattr(each, name) for name in _FORM} for each in (vae.model.config, config))
    other = [name for name in _FORM if found[name] != wanted[name]]
    if other:
        said = "; ".join(f"its {name} is {found[name]}, and config vae has {wanted[name]}" for name in other)
        raise UserError(f"vae_training.start={os.fspath(place)!r} is a VAE of another form: {said}")
    return vae.params


def load_dit_start(place: epath.PathLike, model: DiTModel) -> Any:
    """The parameters of the transformer that `videodit export` wrote to `place`, for one of the same form that is trained on.

    Raises UserError where there is none, or its form is another.
    """
    found, params = import_dit(place)
    wanted = model.module
    forms = [{name: getattr(each.config, name) for name in _DIT_FORM} for each in (found, wanted)]
    for form, each in zip(forms, (found, wanted)):
        form |= {"channels of a patch": each.patch_channels, "text": each.text}
    other = [f"its {name} is {forms[0][name]}, and the config's {forms[1][name]}" for name in forms[0] if forms[0][name] != forms[1][name]]
    if other:
        raise UserError(f"start.checkpoint={os.fspath(place)!r} is a transformer of another form: {'; '.join(other)}")
    return params


_DIT_FORM = ("width", "depth", "heads", "mlp", "mlp_ratio", "patch")
_FORM = ("latent_channels", "fold", "stages", "decoder_blocks", "widths", "blocks", "shortcuts", "codec", "lapped")

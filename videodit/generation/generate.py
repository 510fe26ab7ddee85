"""From prompts of any sizes to clips: prompts packed into rows, one ODE for all of them, decoded each at its own size."""

from collections.abc import Sequence
from dataclasses import dataclass
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError
from videodit.core.patches import unpatchify
from videodit.core.segments import PADDING, PATCH, TEXT
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.guidance import guide
from videodit.diffusion.process import to_velocity
from videodit.diffusion.solvers import heun, noise_schedule
from videodit.models.text.tokenizer import BEGIN, Tokenizer
from videodit.training.config import SampleConfig
from videodit.training.models import DiTModel
from videodit.training.restore import TrainedVAE

ROW_STEP = 32  # rows of prompts that are longer than training's are rounded up to this, so that few lengths are compiled


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to make: `frames` frames of `height` x `width` pixels; 1 frame is an image. Equal seeds give equal noise."""

    prompt: str
    frames: int
    height: int
    width: int
    seed: int = 0

    def __post_init__(self):
        for name in ("frames", "height", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A trained transformer with its VAE and tokenizer, ready to sample."""

    model: DiTModel
    params: Any
    vae: TrainedVAE
    tokenizer: Tokenizer
    row_length: int
    rows: int
    max_text_tokens: int

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """The latents that hold a request: rounded up to the grid of VAE and patch."""
        stride, patch = self.vae.model.config.stride, self.model.config.patch
        frames = 1 + math.ceil((request.frames - 1) / stride[0])
        sides = [math.ceil(side / (s * p)) * p for side, s, p in zip((request.height, request.width), stride[1:], patch[1:])]
        frames = math.ceil(frames / patch[0]) * patch[0]
        return frames, *sides, self.model.latent_channels

    def __call__(self, requests: Sequence[Request], settings: SampleConfig) -> list[np.ndarray]:
        """The clips, uint8 `[T, H, W, 3]`, in the order of `requests`."""
        samples = [self._sample(number, request) for number, request in enumerate(requests)]
        length = max(self.row_length, math.ceil(max(len(each["text_ids"]) for each in samples) / ROW_STEP) * ROW_STEP)
        rows = first_fit(samples, length)
        levels = noise_schedule(settings.steps, settings.shift)
        latents: list[Any] = [None] * len(requests)
        for start in range(0, len(rows), self.rows):
            chunk = rows[start : start + self.rows]
            batch = concatenate_rows([*chunk, *[[] for _ in range(self.rows - len(chunk))]], length)
            solved = np.asarray(_solve(self.model, self.params, _arrays(batch), levels, settings.guidance))
            for row, row_samples in zip(solved, chunk):
                position = 0
                for sample in row_samples:
                    stop = position + len(sample["text_ids"])
                    number, patches = int(sample["clip"][0]), row[position:stop][sample["modality"] == PATCH]
                    latents[number] = unpatchify(patches, tuple(sample["extent"][0]), self.model.config.patch)
                    position = stop
        return [_crop(self.vae.decode(latent[None])[0], request) for latent, request in zip(latents, requests)]

    def _sample(self, number: int, request: Request) -> dict[str, np.ndarray]:
        """Text and start noise of one request."""
        noise = np.asarray(jax.random.normal(jax.random.key(request.seed), self.latent_shape(request)))
        return tokens_of(noise, self.tokenizer.encode(request.prompt, self.max_text_tokens), self.model.config.patch, number)


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: DiTModel, params, batch, levels, guidance):
    """Rows with their captions above the same rows without: one pass gives both velocities."""
    without = _without_text(batch)
    both = {name: jnp.concatenate([batch[name], without[name]]) for name in batch}
    is_patch = both["modality"] == PATCH

    def velocity(x, t):
        twice, level = jnp.concatenate([x, x]), jnp.where(is_patch, t, 0.0)
        out = to_velocity(model.module.apply({"params": params}, twice, level, both), twice, level, model.process)
        return guide(*jnp.split(out, 2), guidance)

    return heun(velocity, batch["patches"], levels)


def first_fit(samples: Sequence[dict[str, np.ndarray]], length: int) -> list[list[dict[str, np.ndarray]]]:
    """Rows of samples, each sample in the first row that has room; the longest samples go first."""
    rows: list[list[dict[str, np.ndarray]]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda each: -len(each["text_ids"])):
        need = len(sample["text_ids"])
        place = next((i for i, free in enumerate(room) if free >= need), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(length)
        rows[place].append(sample)
        room[place] -= need
    return rows


def _arrays(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in batch.items() if name != "clip"}


def _without_text(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The same rows with the empty caption: the begin token stays, moved to where a caption ends, and the other words are padding."""
    is_text = batch["modality"] == TEXT
    last = is_text & (batch["positions"][..., 0] == -1)
    words = is_text & ~last
    return batch | {
        "text_ids": jnp.where(last, BEGIN, jnp.where(words, 0, batch["text_ids"])),
        "modality": jnp.where(words, PADDING, batch["modality"]),
        "segment_ids": jnp.where(words, 0, batch["segment_ids"]),
    }


def _crop(pixels: np.ndarray, request: Request) -> np.ndarray:
    """Cuts what the grid added: evenly at the sides, at the end in time."""
    top, left = (pixels.shape[1] - request.height) // 2, (pixels.shape[2] - request.width) // 2
    return pixels[: request.frames, top : top + request.height, left : left + request.width]

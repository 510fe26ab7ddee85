"""From prompts of any sizes to clips: prompts packed into rows, one flow for all of them, decoded each at its own size.

Where guidance acts, each clip lies in its row twice, with its prompt and with its negative prompt, so that one pass gives both velocities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from videodit.attention import row_multiple
from videodit.core.errors import UserError
from videodit.core.patches import unpatchify
from videodit.core.segments import PATCH
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.guidance import GuidanceConfig, guide, start_memory
from videodit.diffusion.process import to_velocity
from videodit.diffusion.shift import shift_of
from videodit.diffusion.solvers import SOLVERS, SolverName, noise_schedule
from videodit.models.text.tokenizer import Tokenizer
from videodit.training.config import SampleConfig
from videodit.training.models import DiTModel
from videodit.training.restore import TrainedVAE

ROW_STEP = 32  # rows of prompts that are longer than training's are rounded up to this, so that few lengths are compiled


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to make: `frames` frames of `height` x `width` pixels; 1 frame is an image. Equal seeds give equal noise.

    Guidance leads from `negative`, by default the empty caption, to `prompt`.
    """

    prompt: str
    frames: int
    height: int
    width: int
    seed: int = 0
    negative: str = ""

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
        units = [self._sample(number, request, settings.guidance.acts) for number, request in enumerate(requests)]
        step = math.lcm(ROW_STEP, row_multiple(self.model.config.attention))
        length = max(self.row_length, math.ceil(max(map(_length, units)) / step) * step)
        rows = first_fit(units, length)
        keys = np.stack([jax.random.key_data(jax.random.key(request.seed)) for request in requests])
        latents: list[Any] = [None] * len(requests)
        for start in range(0, len(rows), self.rows):
            chunk = rows[start : start + self.rows]
            chunk = [*chunk, *[[] for _ in range(self.rows - len(chunk))]]
            batch = concatenate_rows([[sample for unit in row for sample in unit] for row in chunk], length) | _twins(chunk, length)
            batch["keys"] = keys[batch.pop("clip")]
            shift = np.broadcast_to(shift_of(settings.shift, batch["extent"]), batch["modality"].shape)
            levels = noise_schedule(settings.steps, shift) * (batch["modality"] == PATCH)  # text and padding stay clean
            solved = np.asarray(_solve(self.model, settings.solver, settings.guidance, self.params, batch, levels))
            for row, units_of_row in zip(solved, chunk):
                position = 0
                for unit in units_of_row:
                    sample, stop = unit[0], position + _length(unit[:1])
                    number, patches = int(sample["clip"][0]), row[position:stop][sample["modality"] == PATCH]
                    latents[number] = unpatchify(patches, tuple(sample["extent"][0]), self.model.config.patch)
                    position += _length(unit)
        return [_crop(self.vae.decode(latent[None])[0], request) for latent, request in zip(latents, requests)]

    def _sample(self, number: int, request: Request, guided: bool) -> list[dict[str, np.ndarray]]:
        """Text and start noise of one request, and where it is `guided` the same noise after its negative prompt."""
        noise = np.asarray(jax.random.normal(jax.random.key(request.seed), self.latent_shape(request)))
        prompts = [request.prompt, request.negative] if guided else [request.prompt]
        return [
            tokens_of(noise, self.tokenizer.encode(prompt, self.max_text_tokens), self.model.config.patch, number) for prompt in prompts
        ]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(model: DiTModel, solver: SolverName, guidance: GuidanceConfig, params, batch, levels):
    """Integrates rows of noise along `levels` `[steps + 1, B, L]`. Both copies of a clip follow the same guided velocity."""

    def velocity(x, level, memory):
        own = to_velocity(model.module.apply({"params": params}, x, level, batch), x, level, model.process)
        if not guidance.acts:
            return own, memory
        twin, first = jnp.take_along_axis(own, batch["twin"][..., None], axis=1), batch["first"][..., None]
        return guide(jnp.where(first, own, twin), jnp.where(first, twin, own), x, level, batch["segment_ids"], guidance, memory)

    # A token's noise is of its clip's seed and its place in the clip: packing does not change it, and both copies draw the same.
    frame, row, column = jnp.moveaxis(batch["positions"], -1, 0)
    place = (frame * batch["extent"][..., 1] + row) * batch["extent"][..., 2] + column

    def noise(step):
        fold = lambda key, place: jax.random.fold_in(jax.random.fold_in(key, step), place)
        draw = lambda key, place: jax.random.normal(fold(key, place), batch["patches"].shape[-1:])
        return jax.vmap(jax.vmap(draw))(jax.random.wrap_key_data(batch["keys"]), place)

    return SOLVERS[solver](velocity, batch["patches"], levels, start_memory(batch["patches"], guidance), noise)


Unit = list[dict[str, np.ndarray]]  # the one or two samples of a request, which share a row


def _length(unit: Unit) -> int:
    return sum(len(sample["text_ids"]) for sample in unit)


def first_fit(units: Sequence[Unit], length: int) -> list[list[Unit]]:
    """Rows of units, each in the first row that has room; the longest go first."""
    rows: list[list[Unit]] = []
    room: list[int] = []
    for unit in sorted(units, key=lambda each: -_length(each)):
        place = next((i for i, free in enumerate(room) if free >= _length(unit)), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(length)
        rows[place].append(unit)
        room[place] -= _length(unit)
    return rows


def _twins(rows: Sequence[Sequence[Unit]], length: int) -> dict[str, np.ndarray]:
    """`twin` int32 `[B, L]`: where in its row a patch's copy lies, itself where it has none; `first` bool `[B, L]`: is it the prompt's?"""
    twin, first = np.tile(np.arange(length, dtype=np.int32), (len(rows), 1)), np.ones((len(rows), length), bool)
    for row, units in enumerate(rows):
        position = 0
        for unit in units:
            places = []
            for sample in unit:
                places.append(position + np.flatnonzero(sample["modality"] == PATCH))
                position += len(sample["text_ids"])
            twin[row, places[0]], twin[row, places[-1]] = places[-1], places[0]
            first[row, places[-1]] = len(places) == 1
    return {"twin": twin, "first": first}


def _crop(pixels: np.ndarray, request: Request) -> np.ndarray:
    """Cuts what the grid added: evenly at the sides, at the end in time."""
    top, left = (pixels.shape[1] - request.height) // 2, (pixels.shape[2] - request.width) // 2
    return pixels[: request.frames, top : top + request.height, left : left + request.width]

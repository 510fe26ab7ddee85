"""From prompts of any sizes to clips: prompts packed into rows, one flow for all of them, decoded each at its own size.

What is given of a clip stays at noise level 0, to the bit; what an edit starts from begins at a level of its own, and what was generated
before at a low one. Where guidance acts, each clip lies in its row twice, with its prompt and with its negative prompt, so that one pass
gives both velocities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from videodit.attention import row_multiple
from videodit.core.errors import UserError
from videodit.core.patches import grid, unpatchify
from videodit.core.segments import PATCH
from videodit.data.packing import Sample, concatenate_rows, length_of, text_lengths, tokens_of
from videodit.data.sizes import SizePolicy
from videodit.diffusion.guidance import GuidanceConfig, guide, start_memory
from videodit.diffusion.process import to_velocity
from videodit.diffusion.shift import shift_of
from videodit.diffusion.solvers import SOLVERS, SolverName, noise_schedule
from videodit.generation.canvas import Canvas, known_latents
from videodit.generation.noise import start_noise
from videodit.models.text.source import RememberedText, TextSource
from videodit.sharding.rules import batch_shardings
from videodit.training.config import SampleConfig
from videodit.training.models import DiTModel
from videodit.training.restore import TrainedVAE

ROW_STEP = 32  # rows of prompts that are longer than training's are rounded up to this, so that few lengths are compiled


@dataclass(frozen=True, kw_only=True)
class Request:
    """One clip to make: `frames` frames of `height` x `width` pixels; 1 frame is an image. Equal seeds give equal noise.

    Guidance leads from `negative`, by default the empty caption, to `prompt`. `canvas`: what of the clip is given. Where `strength` is less
    than 1, what is not given starts from the canvas too, noised to that level (SDEdit; Meng et al., 2022).
    """

    prompt: str
    frames: int
    height: int
    width: int
    seed: int = 0
    negative: str = ""
    canvas: Canvas | None = field(default=None, compare=False, repr=False)
    strength: float = 1.0

    def __post_init__(self):
        for name in ("frames", "height", "width"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0 < self.strength <= 1:
            raise UserError(f"strength is {self.strength:g}, expected more than 0, which keeps all, to 1, which keeps nothing")
        if self.canvas is None:
            if self.strength < 1:
                raise UserError(f"strength is {self.strength:g}, but there is no clip to start from: expected 1")
        elif self.canvas.given.shape != (self.frames, self.height, self.width):
            have = self.canvas.given.shape
            raise UserError(
                f"a canvas has {have[0]} frames of {have[2]}x{have[1]}, but {self.frames} of {self.width}x{self.height} are asked for"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What became of a request: `clip` uint8 `[T, H, W, 3]`, and `latents` float32 `[T', H', W', C]`, of which the VAE decoded it."""

    clip: np.ndarray
    latents: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A trained transformer with its VAE and what makes its text tokens, ready to sample."""

    model: DiTModel
    params: Any
    vae: TrainedVAE
    text: TextSource | RememberedText
    row_length: int
    rows: int
    policy: SizePolicy  # of the clips that it was trained on
    mesh: Mesh | None = None
    settings: SampleConfig = field(default_factory=SampleConfig)  # where a caller has none of its own
    identity: dict[str, Any] = field(default_factory=dict)  # which weights these are, as JSON

    @property
    def fps(self) -> float:
        """Frames a second of the clips that it was trained on."""
        return self.policy.fps

    @property
    def time(self) -> int:
        """Frames in a latent."""
        return self.vae.model.config.stride[0]

    def tokens(self, request: Request) -> int:
        """Patches of a request."""
        return math.prod(grid(self.latent_shape(request), self.model.config.patch))

    def latent_shape(self, request: Request) -> tuple[int, int, int, int]:
        """The latents that hold a request: rounded up to the grid of VAE and patch."""
        stride, patch = self.vae.model.config.stride, self.model.config.patch
        frames = 1 + math.ceil((request.frames - 1) / stride[0])
        sides = [math.ceil(side / (s * p)) * p for side, s, p in zip((request.height, request.width), stride[1:], patch[1:])]
        frames = math.ceil(frames / patch[0]) * patch[0]
        return frames, *sides, self.model.latent_channels

    def __call__(self, requests: Sequence[Request], settings: SampleConfig) -> list[np.ndarray]:
        """The clips, uint8 `[T, H, W, 3]`, in the order of `requests`."""
        return [made.clip for made in self.make(requests, settings)]

    def make(self, requests: Sequence[Request], settings: SampleConfig) -> list[Made]:
        """The clips with their latents, in the order of `requests`."""
        starts = [self._start(request, self._history_noise(settings)) for request in requests]
        units = self._units(requests, starts, settings.guidance.acts, self.fps / settings.fps)
        step = math.lcm(ROW_STEP, row_multiple(self.model.config.attention))
        length = max(self.row_length, math.ceil(max(map(_length, units)) / step) * step)
        packed = first_fit(units, length)
        slots = [_text_slots(most, length) for most in text_lengths([_samples(row) for row in packed])]
        keys = np.stack([jax.random.key_data(jax.random.key(request.seed)) for request in requests])
        latents: list[Any] = [None] * len(requests)
        while packed:
            rows = self._rows(len(packed))
            chunk, packed = packed[:rows], packed[rows:]
            chunk = [*chunk, *[[] for _ in range(rows - len(chunk))]]
            batch = concatenate_rows([_samples(row) for row in chunk], length, slots) | _by_token(chunk, length)
            batch["keys"] = keys[batch.pop("clip")]
            shift = np.broadcast_to(shift_of(settings.shift, batch["extent"]), batch["modality"].shape)
            levels = np.asarray(noise_schedule(settings.steps, shift)) * batch.pop("start")  # what is known, text and padding stay clean
            solved = self._solve(settings, batch, levels)
            for row, units_of_row in zip(solved, chunk):
                position = 0
                for unit in units_of_row:
                    sample, stop = unit[0], position + _length(unit[:1])
                    number, patches = int(sample["clip"][0]), row[position:stop][sample["modality"] == PATCH]
                    latents[number] = unpatchify(patches, tuple(sample["extent"][0]), self.model.config.patch)
                    position += _length(unit)
        clips = (_crop(self.vae.decode(latent[None])[0], request) for latent, request in zip(latents, requests))
        clips = (self._with_given(clip, request, start) for clip, request, start in zip(clips, requests, starts))
        return [Made(clip=clip, latents=latent) for clip, latent in zip(clips, latents)]

    def _rows(self, needed: int) -> int:
        """Rows at a time: all of `rows`, half of them or 1, so that three programs serve all and few rows are empty; with a mesh as many as
        its devices share evenly."""
        rows = next(each for each in (self.rows, self.rows // 2, 1) if 0 < each <= needed)
        share = self.mesh.shape["data"] * self.mesh.shape["fsdp"] if self.mesh else 1
        return math.ceil(rows / share) * share

    def _solve(self, settings: SampleConfig, batch: dict[str, np.ndarray], levels: np.ndarray) -> np.ndarray:
        arguments = self.model, settings.solver, settings.guidance, self.params
        if self.mesh is None:
            return np.asarray(solve(*arguments, batch, levels))
        shardings = batch_shardings(batch, self.mesh)
        by_rows = NamedSharding(self.mesh, PartitionSpec(None, *shardings["segment_ids"].spec))
        with jax.set_mesh(self.mesh):
            return np.asarray(solve(*arguments, jax.device_put(batch, shardings), jax.device_put(levels, by_rows)))

    def _history_noise(self, settings: SampleConfig) -> float:
        """By default the most that training had."""
        return self.model.process.known.noise if settings.history_noise is None else settings.history_noise

    def _start(self, request: Request, history_noise: float) -> "Start":
        shape = self.latent_shape(request)
        noise = start_noise(request.seed, shape)
        patch = self.model.config.patch
        if request.canvas is None:
            return Start(latents=noise, level=np.ones(grid(shape, patch), np.float32).ravel(), known=np.zeros(grid(shape, patch), bool))
        found = known_latents(self.vae, patch, request.canvas, shape)
        if found.known.all():
            raise UserError("everything of a clip is given: leave something to make, a patch of it at least")
        level = np.where(found.known, np.where(found.history, history_noise, 0.0), request.strength).astype(np.float32)
        of_latent = level
        for axis, times in enumerate(patch):
            of_latent = of_latent.repeat(times, axis=axis)
        of_latent = of_latent[..., None]
        return Start(latents=(1 - of_latent) * found.latents + of_latent * noise, level=level.ravel(), known=found.known)

    def _with_given(self, clip: np.ndarray, request: Request, start: "Start") -> np.ndarray:
        """The clip with those given pixels that share a token with others, which were made anew, as they were given."""
        if request.canvas is None:
            return clip
        stride, patch = self.vae.model.config.stride, self.model.config.patch
        pixels = start.known.repeat(patch[0], axis=0)
        pixels = np.concatenate([pixels[:1], pixels[1:].repeat(stride[0], axis=0)])
        for axis in (1, 2):
            pixels = pixels.repeat(stride[axis] * patch[axis], axis=axis)
        lost = request.canvas.given & ~_crop(pixels, request)
        return np.where(lost[..., None], request.canvas.frames, clip)

    def _units(self, requests: Sequence[Request], starts: Sequence["Start"], guided: bool, time_step: float) -> list["Unit"]:
        """Text and start of each request, and where they are `guided` the same start after its negative prompt."""
        units, patch = [], self.model.config.patch
        prompts = [(request.prompt, request.negative) if guided else (request.prompt,) for request in requests]
        texts = iter(self.text.encode([prompt for each in prompts for prompt in each]))
        for number, start in enumerate(starts):
            unit = [tokens_of(start.latents, next(texts), patch, number, time_step) for _ in prompts[number]]
            for sample in unit:
                sample["start"] = np.zeros(length_of(sample), np.float32)
                sample["start"][sample["modality"] == PATCH] = start.level
            units.append(unit)
        return units


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where the flow of a clip begins: `latents` float32 `[T', H', W', C]`, the noise `level` of each of its tokens, float32 `[m]`, and
    which of them are `known`, bool on their grid."""

    latents: np.ndarray
    level: np.ndarray
    known: np.ndarray


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def solve(model: DiTModel, solver: SolverName, guidance: GuidanceConfig, params, batch, levels):
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


Unit = list[Sample]  # the one or two samples of a request, which share a row


def _length(unit: Unit) -> int:
    return sum(map(length_of, unit))


def _samples(row: Sequence[Unit]) -> list[Sample]:
    return [sample for unit in row for sample in unit]


def _text_slots(needed: int, length: int) -> int:
    """Slots for text in a row: a quarter of it, doubled until they are enough, so that prompts hardly ever ask for another program."""
    slots = math.ceil(length / 4 / ROW_STEP) * ROW_STEP
    while slots < needed:
        slots *= 2
    return slots


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


def _by_token(rows: Sequence[Sequence[Unit]], length: int) -> dict[str, np.ndarray]:
    """What sampling alone knows of each token, `[B, L]`: `twin` int32, where in its row a patch's copy lies, itself where it has none;
    `first` bool, is it the prompt's?; `start` float32, the noise level that it starts from."""
    twin, first = np.tile(np.arange(length, dtype=np.int32), (len(rows), 1)), np.ones((len(rows), length), bool)
    start = np.zeros((len(rows), length), np.float32)
    for row, units in enumerate(rows):
        position = 0
        for unit in units:
            places = []
            for sample in unit:
                places.append(position + np.flatnonzero(sample["modality"] == PATCH))
                start[row, position : position + length_of(sample)] = sample["start"]
                position += length_of(sample)
            twin[row, places[0]], twin[row, places[-1]] = places[-1], places[0]
            first[row, places[-1]] = len(places) == 1
    return {"twin": twin, "first": first, "start": start}


def _crop(pixels: np.ndarray, request: Request) -> np.ndarray:
    """`[T, H, W, ...]` without what the grid added: evenly at the sides, at the end in time."""
    top, left = (pixels.shape[1] - request.height) // 2, (pixels.shape[2] - request.width) // 2
    return pixels[: request.frames, top : top + request.height, left : left + request.width]

"""Videos of any length and size through a VAE in memory that a plan fixes: chunk after chunk in time, tile beside tile in space.

Chunks go on from each other's last frames (`layers`), so they equal one pass. Tiles do not know of each other: they overlap, and where
they do one fades into the next.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError
from videodit.core.memory import free_bytes
from videodit.models.vae.model import VAE

Moments = tuple[np.ndarray, np.ndarray]  # mean and log variance

_WORTHWHILE = 1024  # latents in a chunk: more at once are no faster, and only take memory
_LONGEST = 8  # latents in a chunk, along time
_SMALLEST, _PROBE = 16, 8  # latents along a tile's side; and along that of the tile whose memory is looked at
_OVERLAP = 4  # of a tile's side, one part in so many is shared with the next


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a video is taken apart: `chunk` latents in time at once, tiles of `tile` (rows, columns) latents; `bytes` that it takes."""

    chunk: int
    tile: tuple[int, int]
    bytes: int


def make_plan(module: VAE, params: Any, size: tuple[int, int], direction: str, budget: int | None = None) -> Plan:
    """The plan for frames of `size` (height, width) in pixels, multiples of the VAE's stride, within `budget` bytes.

    Args:
      direction: "encode" or "decode".
      budget: by default, three quarters of the memory that the device has free.

    Raises UserError where not even the smallest tile fits.
    """
    _, h, w = module.config.stride
    rows, columns = size[0] // h, size[1] // w
    budget = int(0.75 * free_bytes()) if budget is None else budget
    chunk = min(_LONGEST, 2 ** math.ceil(math.log2(max(1, _WORTHWHILE / (rows * columns)))))
    work, kept = _bytes_per_latent(module, _shapes(params), direction, chunk)
    whole = Plan(chunk=chunk, tile=(rows, columns), bytes=math.ceil(rows * columns * (work + kept)))
    if whole.bytes <= budget:
        return whole
    work, kept = _bytes_per_latent(module, _shapes(params), direction, 1)
    one = Plan(chunk=1, tile=(rows, columns), bytes=math.ceil(rows * columns * (work + kept)))
    if one.bytes <= budget:
        return one
    # Tiles wait for their turn with what they keep of the frames before; overlaps are kept twice.
    held = rows * columns * kept * (_OVERLAP / (_OVERLAP - 1)) ** 2
    side = math.floor(math.sqrt(max(0.0, budget - held) / work))
    tile = (min(rows, side), min(columns, side))
    tile = tuple(max(each, min(budget_side, most)) for each, budget_side, most in zip(tile, (_SMALLEST, _SMALLEST), (rows, columns)))
    needed = math.ceil(tile[0] * tile[1] * work + held)
    if needed > budget:
        raise UserError(
            f"{budget / 1e9:.2f} GB are too few to {direction} {size[1]}x{size[0]}, expected {needed / 1e9:.2f} or more, or smaller frames"
        )
    return Plan(chunk=1, tile=tile, bytes=needed)


def encode_chunks(module: VAE, params: Any, frames: Iterable[np.ndarray], plan: Plan) -> Iterator[Moments]:
    """Mean and log variance of the latents, float32 `[n, H', W', C]` each, n at a time, of frames, uint8 `[H, W, 3]`, as they come.

    Where the last frames make no whole latent, the last one is held.
    """
    time, h, w = module.config.stride
    tiled: _Tiled | None = None
    for number, (pixels, latents) in enumerate(_chunks(frames, plan.chunk, time)):
        if tiled is None:
            tiled = _Tiled(module, params, "encode", (pixels.shape[1] // h, pixels.shape[2] // w), plan.tile)
        mean, log_variance = np.split(tiled(pixels, first=number == 0)[:latents], 2, axis=-1)
        yield mean, log_variance


def decode_chunks(module: VAE, params: Any, latents: Iterable[np.ndarray], plan: Plan) -> Iterator[np.ndarray]:
    """Frames, uint8 `[n, H, W, 3]` at a time, of latents, float32 `[H', W', C]` each, as they come: 1 + s (T' - 1) in all."""
    time, tiled = module.config.stride[0], None
    for number, (chunk, real) in enumerate(_chunks(latents, plan.chunk, 1)):
        if tiled is None:
            tiled = _Tiled(module, params, "decode", chunk.shape[1:3], plan.tile)
        frames = tiled(chunk, first=number == 0)
        yield _to_uint8(frames[: 1 if number == 0 else time * real])


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.round((np.clip(pixels, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def _chunks(items: Iterable[np.ndarray], chunk: int, time: int) -> Iterator[tuple[np.ndarray, int]]:
    """The first item alone, then items as chunks for `chunk` latents, and how many latents of each are real.

    The usual lengths, 1 + 4k latents, so take no more work than they must. The last chunk is filled up with its last item: the VAE is
    causal, so that changes nothing before.
    """
    items = iter(items)
    for item in itertools.islice(items, 1):
        yield item[None], 1
    while held := list(itertools.islice(items, time * chunk)):
        yield np.stack(held + [held[-1]] * (time * chunk - len(held))), math.ceil(len(held) / time)


@functools.partial(jax.jit, static_argnums=(0, 1, 4), donate_argnums=3)
def _step(module: VAE, direction: str, params, cache, first: bool, x):
    """A chunk `[T, H, W, C]` and what the one before it kept -> what it gives, float32, and what it keeps.

    Encoding gives mean and log variance one behind the other along the channels.
    """
    if direction == "encode":
        x = x.astype(jnp.float32) / 127.5 - 1.0
    variables = {"params": params} if first else {"params": params, "cache": cache}
    out, kept = module.apply(variables, x[None], first, method=direction, mutable=["cache"])
    return (jnp.concatenate(out, axis=-1) if direction == "encode" else out)[0], kept["cache"]


class _Tiled:
    """Chunks of one video, tile by tile. Between chunks a tile's cache lies in host memory, where there are several."""

    def __init__(self, module: VAE, params: Any, direction: str, size: tuple[int, int], tile: tuple[int, int]):
        self._step = functools.partial(_step, module, direction, params)
        _, h, w = module.config.stride
        self._in, self._out = ((h, w), (1, 1)) if direction == "encode" else ((1, 1), (h, w))
        self._size, self._tile = size, tile
        self._places = [(row, column) for row in _starts(size[0], tile[0]) for column in _starts(size[1], tile[1])]
        self._caches: list[Any] = [{}] * len(self._places)

    def __call__(self, x: np.ndarray, first: bool) -> np.ndarray:
        if len(self._places) == 1:
            out, self._caches[0] = self._step(self._caches[0], first, x)
            return np.asarray(out)
        whole = None
        for number, place in enumerate(self._places):
            out, cache = self._step(self._caches[number], first, x[:, *_slices(place, self._tile, self._in)])
            self._caches[number] = jax.device_get(cache)
            if whole is None:
                whole = np.zeros((out.shape[0], *(a * b for a, b in zip(self._size, self._out)), out.shape[-1]), np.float32)
            whole[:, *_slices(place, self._tile, self._out)] += np.asarray(out) * self._weight(place)
        return whole

    def _weight(self, place: tuple[int, int]) -> np.ndarray:
        """`[h, w, 1]` of a tile: weights of all tiles add up to one everywhere."""
        row, column = (
            _fade(start, side, size, step) for start, side, size, step in zip(place, self._tile, self._size, self._out, strict=True)
        )
        return row[:, None, None] * column[None, :, None]


def _slices(place: tuple[int, int], tile: tuple[int, int], step: tuple[int, int]) -> tuple[slice, slice]:
    return tuple(slice(start * s, (start + side) * s) for start, side, s in zip(place, tile, step))


def _starts(size: int, tile: int) -> list[int]:
    """Where tiles begin along a side: evenly, with an overlap of a fourth of a tile or more."""
    if tile >= size:
        return [0]
    count = 1 + math.ceil((size - tile) / max(1, tile - tile // _OVERLAP))
    return [round(i * (size - tile) / (count - 1)) for i in range(count)]


@functools.lru_cache(maxsize=64)
def _fade(start: int, tile: int, size: int, step: int) -> np.ndarray:
    """Weights of the tile at `start` along its side: a ramp where it shares with a neighbour, over the sum of all tiles' ramps.

    A tile's outermost latents lack neighbours that lapped blocks reach into, and count nothing where the overlap has room to do without.
    """

    def ramp(begin: int) -> np.ndarray:
        place = np.arange(size * step) + 0.5
        shared = max(1, tile // _OVERLAP)
        outermost = 1 if shared > 2 else 0
        edge = (shared - outermost) * step
        rise = np.clip((place - (begin + outermost) * step) / edge, 0, 1) if begin else 1.0
        fall = np.clip(((begin + tile - outermost) * step - place) / edge, 0, 1) if begin + tile < size else 1.0
        return np.where((place > begin * step) & (place < (begin + tile) * step), np.minimum(rise, fall), 0.0)

    total = sum(ramp(each) for each in _starts(size, tile))
    return (ramp(start) / total)[start * step : (start + tile) * step].astype(np.float32)


def _shapes(params: Any) -> tuple:
    """Something hashable that says what shapes parameters have."""
    leaves, tree = jax.tree.flatten(params)
    return tree, tuple((leaf.shape, np.dtype(leaf.dtype).name) for leaf in leaves)


@functools.lru_cache(maxsize=32)
def _bytes_per_latent(module: VAE, shapes: tuple, direction: str, chunk: int) -> tuple[float, float]:
    """(bytes of work, bytes kept between chunks) for each latent of a frame, as XLA has planned them for a small tile."""
    tree, leaves = shapes
    params = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])
    time, h, w = module.config.stride
    struct = jax.ShapeDtypeStruct
    if direction == "encode":
        first, later = (struct((n, _PROBE * h, _PROBE * w, 3), np.uint8) for n in (1, time * chunk))
    else:
        first, later = (struct((n, _PROBE, _PROBE, module.config.latent_channels), np.float32) for n in (1, chunk))
    _, cache = jax.eval_shape(functools.partial(_step, module, direction, first=True), params, {}, x=first)
    told = _step.lower(module, direction, params, cache, False, later).compile().memory_analysis()
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    weights = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in leaves)
    work = told.temp_size_in_bytes + told.output_size_in_bytes + told.argument_size_in_bytes - weights - kept
    return max(work, 1) / _PROBE**2, kept / _PROBE**2

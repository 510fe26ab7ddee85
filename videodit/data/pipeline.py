"""From data sets to endless batches: the grain pipelines of the VAE and of the transformer.

Both orders are pure functions of the seed; an iterator's `get_state` says where it is, and `set_state` goes on from there.
"""

from collections.abc import Callable
import dataclasses

import grain
import numpy as np

from videodit.core.errors import UserError
from videodit.data.buckets import BucketSchedule, choose_buckets, nearest_bucket
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.latents import LatentDataset
from videodit.data.packing import pack, tokens_of
from videodit.data.sizes import SizePolicy, fit, windows

_ENDLESS = 2**40  # batches; a range that no training reaches the end of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a clip as it is trained on: `start` in seconds, and frames, height and width in pixels."""

    record: int
    start: float
    frames: int
    height: int
    width: int


def all_windows(dataset: ClipDataset, policy: SizePolicy) -> list[Window]:
    """Every window of every clip under a size policy, in the data set's order."""
    found = []
    for record, ((frames, height, width), fps) in enumerate(zip(dataset.sizes.tolist(), dataset.fps.tolist())):
        size = fit(frames, height, width, fps, policy)
        for start, count in windows(frames, fps, policy, max_frames=size.frames):
            found.append(Window(record=record, start=start, frames=count, height=size.height, width=size.width))
    return found


def read_window(dataset: ClipDataset, window: Window, fps: float, frames: int | None = None) -> np.ndarray:
    """uint8 `[T, H, W, 3]` of a window; where `frames` is more than it has, its last frame is held."""
    record = dataset[window.record]
    rate = fps if record["frames"] > 1 else None
    pixels = decode_record(record, fps=rate, start=window.start, frames=window.frames, size=(window.height, window.width))
    missing = (frames or window.frames) - len(pixels)
    return pixels if missing <= 0 else np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


class VAEBatches:
    """Batch n of the VAE's training: uint8 `[batch, frames, height, width, 3]`, all of one bucket.

    A clip is cut into windows of `frames` frames; one that is shorter, a still among them, holds its last frame. Sizes are brought to
    the nearest of at most `max_buckets` that are chosen from the data set's own. Decoded windows are kept, up to `cache_bytes`: a small
    data set, which is read many times, is decoded once. Nothing is evicted, since an epoch comes to each window once.
    """

    def __init__(self, dataset: ClipDataset, policy: SizePolicy, batch_size: int, max_buckets: int, seed: int, cache_bytes: int = 0):
        self.dataset, self.policy = dataset, policy
        found = all_windows(dataset, policy)
        self.buckets = choose_buckets([(each.height, each.width) for each in found], max_buckets)
        self.windows, members = [], [[] for _ in self.buckets]
        for number, each in enumerate(found):
            bucket = nearest_bucket(each.height, each.width, self.buckets)
            members[bucket].append(number)
            self.windows.append(dataclasses.replace(each, height=self.buckets[bucket][0], width=self.buckets[bucket][1]))
        self.schedule = BucketSchedule(members, batch_size, seed)
        self._cache: dict[int, np.ndarray] = {}
        self._cache_left = cache_bytes

    def __call__(self, n: int) -> dict[str, np.ndarray]:
        chosen = self.schedule.batch(int(n))
        return {"pixels": np.stack([self._read(i) for i in chosen.tolist()]), "clip": chosen.astype(np.int32)}

    def _read(self, i: int) -> np.ndarray:
        pixels = self._cache.get(i)
        if pixels is None:
            pixels = read_window(self.dataset, self.windows[i], self.policy.fps, self.policy.max_frames)
            if pixels.nbytes <= self._cache_left:  # threads may overdraw by a window each
                self._cache_left -= pixels.nbytes
                self._cache[i] = pixels
        return pixels


def vae_batches(source: VAEBatches, threads: int) -> grain.DatasetIterator:
    """An endless iterator over batches 0, 1, 2, ... of `source`; `threads` of them are read ahead."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.range(_ENDLESS).map(source).to_iter_dataset(options))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackingConfig:
    """How rows are packed.

    length: tokens a row; rows: rows a step, over all devices; bins: rows that are filled side by side.
    max_text_tokens: where a caption is cut. caption_odds: odds of each kind of caption, among those that a clip has; caption_dropout:
    share of clips trained without one, for guidance (Ho and Salimans, 2022).
    """

    length: int = 160
    rows: int = 24
    bins: int = 96
    max_text_tokens: int = 64
    caption_odds: dict[str, float] = dataclasses.field(default_factory=lambda: {"descriptive": 0.95, "original": 0.05})
    caption_dropout: float = 0.1


class ToTokens(grain.transforms.RandomMap):
    """A latent record to the tokens of one sample, its caption drawn by kind and sometimes dropped."""

    def __init__(self, config: PackingConfig, patch: tuple[int, int, int], tokenize: Callable[[str, int], np.ndarray]):
        self.config, self.patch, self.tokenize = config, patch, tokenize

    def random_map(self, record: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
        c = self.config
        odds = np.array([weight * bool(record["captions"].get(kind)) for kind, weight in c.caption_odds.items()])
        choice, drop = rng.random(2)
        caption = ""
        if odds.sum() > 0 and drop >= c.caption_dropout:
            caption = record["captions"][list(c.caption_odds)[int(np.searchsorted(np.cumsum(odds) / odds.sum(), choice))]]
        return tokens_of(record["latents"], self.tokenize(caption, c.max_text_tokens), self.patch, record["clip"])


def packed_batches(
    dataset: LatentDataset,
    config: PackingConfig,
    patch: tuple[int, int, int],
    tokenize: Callable[[str, int], np.ndarray],
    seed: int,
    threads: int,
) -> grain.DatasetIterator:
    """An endless iterator over packed batches, each epoch in an order of its own."""
    longest = int((dataset.sizes // np.asarray(patch)).prod(axis=1).max()) + config.max_text_tokens
    if longest > config.length:
        raise UserError(
            f"packing.length={config.length} cannot hold the longest clip with its caption: {longest} tokens; "
            f"raise packing.length, or lower data.policy.max_tokens or packing.max_text_tokens"
        )
    samples = (
        grain.MapDataset.source(dataset)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(ToTokens(config, patch, tokenize))
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=64))
    )
    return iter(pack(samples, config.length, config.rows, config.bins, seed))

"""From data sets to endless batches: the grain pipelines of the VAE and of the transformer.

Both orders are pure functions of the seed; an iterator's `get_state` says where it is, and `set_state` goes on from there.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import dataclasses
import functools
import math
from typing import Any

import grain
import numpy as np

from videodit.core.errors import UserError
from videodit.data.augmentation import AugmentConfig, DecodedClips, draw_view, held_size, show
from videodit.data.bad_records import BadRecords
from videodit.data.buckets import BucketSchedule, batch_sizes, choose_buckets, nearest_buckets
from videodit.data.curriculum import MixtureConfig
from videodit.data.dataset import ClipDataset, JoinedClips, decode_record
from videodit.data.latents import LatentDataset
from videodit.data.order import PackingConfig, RowOrder, Rows, Sample, Sizes, TextSizes
from videodit.data.packing import concatenate_rows, length_of, tokens_of
from videodit.data.sizes import SizePolicy, fit, tokens, windows

_ENDLESS = 2**40  # batches; a range that no training reaches the end of
_AHEAD = 4  # packed batches that are read ahead


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a clip as it is trained on: `start` in seconds, and frames, height and width in pixels."""

    record: int
    start: float
    frames: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int, int]:
        return self.frames, self.height, self.width


def all_windows(dataset: ClipDataset | JoinedClips, policy: SizePolicy) -> list[Window]:
    """Every window of every clip under a size policy, in the data set's order."""
    found = []
    for record, ((frames, height, width), fps) in enumerate(zip(dataset.sizes.tolist(), dataset.fps.tolist())):
        size = fit(frames, height, width, fps, policy)
        for start, count in windows(frames, fps, policy, max_frames=size.frames):
            found.append(Window(record=record, start=start, frames=count, height=size.height, width=size.width))
    return found


def read_window(dataset: ClipDataset | JoinedClips, window: Window, fps: float, frames: int | None = None) -> np.ndarray:
    """uint8 `[T, H, W, 3]` of a window; where `frames` is more than it has, its last frame is held."""
    record = dataset[window.record]
    rate = fps if record["frames"] > 1 else None
    pixels = decode_record(record, fps=rate, start=window.start, frames=window.frames, size=(window.height, window.width))
    return _lengthened(pixels, frames or window.frames)


def _lengthened(pixels: np.ndarray, frames: int) -> np.ndarray:
    """At least `frames` frames: the last is held."""
    missing = frames - len(pixels)
    return pixels if missing <= 0 else np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])


def all_images(dataset: ClipDataset | JoinedClips, policy: SizePolicy) -> list[Window]:
    """Every still of a data set, and the middle frame of every other window under a size policy, at the sizes that one frame may have."""
    alone = dataclasses.replace(policy, max_frames=1)
    found = []
    for window in all_windows(dataset, policy):
        (_, height, width), fps = dataset.sizes[window.record].tolist(), float(dataset.fps[window.record])
        size, middle = fit(1, height, width, fps, alone), (window.frames // 2) / policy.fps
        found.append(Window(record=window.record, start=window.start + middle, frames=1, height=size.height, width=size.width))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEStage:
    """What the VAE is trained on from one step on, until the next stage.

    Attributes:
      step: steps of training before it.
      policy: how long and how large a window is.
      batch: windows of a batch of the largest bucket; as many times more of a smaller one as have no more tokens in all.
      max_buckets: sizes (frames, height, width) of videos that are compiled at most, and as many of images.
      images: share of batches that are single frames, stills and frames of videos, from 0 to 1. Stills are in no other batches. Where
        nothing in the data set moves, all batches are.
      augment: how windows are varied from epoch to epoch; shapes stay those of the buckets.
    """

    step: int = 0
    policy: SizePolicy = dataclasses.field(default_factory=lambda: SizePolicy(max_frames=9))
    batch: int = 16
    max_buckets: int = 4
    images: float = 0.2
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        if self.step < 0 or self.batch < 1:
            raise ValueError(f"step {self.step} and batch {self.batch}: expected 0 or more and 1 or more")
        if not 0 <= self.images <= 1:
            raise ValueError(f"images is {self.images}, expected a share from 0 to 1")


class VAEBatches:
    """Batch n of one stage: `pixels` uint8 `[clips, frames, height, width, 3]`, all of one bucket.

    Each window goes to the nearest of the buckets, which are sizes of the data set's own windows; one that is shorter holds its last
    frame. Batches of images lie evenly among those of videos: n batches hold `floor(n * images)` of them.

    Decoded windows, or whole clips where windows are augmented, are kept, up to `cache_bytes`: a small data set, which is read many times,
    is decoded once. Nothing is evicted, since an epoch comes to each window once. A window that cannot be read gives way to the next of its
    bucket that can. `mine` says which of a batch's rows to read, all by default; a batch says which it holds (`row`) of how many (`rows`).
    """

    def __init__(
        self,
        dataset: ClipDataset | JoinedClips,
        stage: VAEStage,
        seed: int,
        *,
        cache_bytes: int = 0,
        bad: BadRecords | None = None,
        mine: Callable[[int], Sequence[int]] = range,
    ):
        self.dataset, self.stage, self.seed, self.mine, self.bad = dataset, stage, seed, mine, bad or BadRecords()
        videos = [window for window in all_windows(dataset, stage.policy) if window.frames > 1] if stage.images < 1 else []
        self._share = stage.images if videos else 1.0
        self.buckets: list[tuple[int, int, int]] = []
        self.windows: list[Window] = []
        self._members: list[list[int]] = []
        self._add(videos)
        of_videos = len(self.buckets)
        self._add(all_images(dataset, stage.policy) if self._share > 0 else [])
        self._bucket_of = {number: bucket for bucket, numbers in enumerate(self._members) for number in numbers}
        sizes = batch_sizes(self.buckets, stage.batch, lambda size: tokens(size, stage.policy.grid))
        schedule = lambda part: BucketSchedule(self._members[part], sizes[part], seed)
        self._videos = schedule(slice(of_videos)) if self._share < 1 else None
        self._images = schedule(slice(of_videos, None)) if self._share > 0 else None
        self._cache: dict[int, np.ndarray] = {}
        self._cache_left = cache_bytes
        held = ((window.record, self._held_size(window)) for window in self.windows)
        self._clips = DecodedClips(dataset, stage.policy, held, cache_bytes) if stage.augment.on else None

    def _held_size(self, window: Window) -> tuple[int, int]:
        native = tuple(self.dataset.sizes[window.record][1:].tolist())
        return held_size(native, (window.height, window.width), self.stage.augment.scale)

    def _add(self, found: list[Window]) -> None:
        """Adds windows, with buckets of their own."""
        if not found:
            return
        sizes = [window.size for window in found]
        buckets = choose_buckets(sizes, self.stage.max_buckets)
        members: list[list[int]] = [[] for _ in buckets]
        for window, bucket in zip(found, nearest_buckets(sizes, buckets)):
            members[bucket].append(len(self.windows))
            self.windows.append(dataclasses.replace(window, height=buckets[bucket][1], width=buckets[bucket][2]))
        self.buckets += buckets
        self._members += members

    def chosen(self, n: int) -> np.ndarray:
        """`int64 [clips]`: which of `windows` make up batch n."""
        images = math.floor(n * self._share + 1e-9)  # in the batches before
        if math.floor((n + 1) * self._share + 1e-9) > images:
            return self._images.batch(images)
        return self._videos.batch(n - images)

    def __call__(self, n: int) -> dict[str, np.ndarray]:
        chosen = self.chosen(int(n))
        mine = list(self.mine(len(chosen)))
        read = [self._read_near(int(chosen[row]), (int(n), row)) for row in mine]
        return {
            "pixels": np.stack([pixels for _, pixels in read]),
            "clip": np.array([number for number, _ in read], np.int32),
            "row": np.array(mine, np.int32),
            "rows": np.int32(len(chosen)),
        }

    def _read_near(self, number: int, place: tuple[int, int]) -> tuple[int, np.ndarray]:
        """The window, or the next of its bucket that can be read, and its pixels; `place` is (batch, row)."""
        read = self._read if self._clips is None else functools.partial(self._read_augmented, place=place)
        attempt = lambda i: self.bad.attempt(lambda: self.dataset.keys[self.windows[i].record], lambda: read(i))
        pixels = attempt(number)
        if pixels is not None:
            return number, pixels
        members = self._members[self._bucket_of[number]]
        first = members.index(number)
        for other in members[first + 1 :] + members[:first]:
            pixels = attempt(other)
            if pixels is not None:
                return other, pixels
        raise UserError(f"no clip of a bucket could be read; the last: {self.bad.last}")

    def _read(self, number: int) -> np.ndarray:
        pixels = self._cache.get(number)
        if pixels is None:
            frames = self.buckets[self._bucket_of[number]][0]
            pixels = read_window(self.dataset, self.windows[number], self.stage.policy.fps, frames)
            if pixels.nbytes <= self._cache_left:  # threads may overdraw by a window each
                self._cache_left -= pixels.nbytes
                self._cache[number] = pixels
        return pixels

    def _read_augmented(self, number: int, place: tuple[int, int]) -> np.ndarray:
        window, frames = self.windows[number], self.buckets[self._bucket_of[number]][0]
        size, starts = (window.height, window.width), self._starts(window, frames)
        view = draw_view(self.stage.augment, (self.seed, *place), self._held_size(window), size, starts)
        return _lengthened(show(self._clips.read(window.record, view.held, view.first, frames), view, size), frames)

    def _starts(self, window: Window, frames: int) -> tuple[int, int]:
        """The first and the last frame that a window, for a bucket of `frames`, may begin at."""
        policy = self.stage.policy
        first, last = round(window.start * policy.fps), max(0, self._clips.frames(window.record) - frames)
        if not self.stage.augment.shift:
            return first, first
        reach = policy.max_frames // 2  # windows lie end to end: together they begin everywhere
        return max(0, min(first - reach, last)), min(first + reach, last)

    def forget(self) -> None:
        """Gives up what was decoded."""
        self._cache.clear()
        if self._clips is not None:
            self._clips.forget()


class StagedBatches:
    """Batch n of the VAE's training, the n-th of all its stages: `sources` are those of `stages`, which are in order of their steps."""

    def __init__(self, stages: Sequence[VAEStage], sources: Sequence[VAEBatches]):
        self._firsts, self._sources = [stage.step for stage in stages], sources

    def __call__(self, n: int) -> dict[str, np.ndarray]:
        number = bisect.bisect_right(self._firsts, int(n)) - 1
        for source in self._sources[:number]:
            source.forget()
        return self._sources[number](int(n) - self._firsts[number])


def vae_batches(source: Callable[[int], dict[str, np.ndarray]], threads: int) -> grain.DatasetIterator:
    """An endless iterator over batches 0, 1, 2, ... of `source`; `threads` of them are read ahead."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.range(_ENDLESS).map(source).to_iter_dataset(options))


# The text tokens of a record with a kind of its captions ("" is the empty one), by each encoder that reads it, cut.
ReadText = Callable[[dict[str, Any], str], Sequence[np.ndarray]]


class ReadRows:
    """`Rows` to a packed batch, as `concatenate_rows` gives it, with `row`: which of the step's `rows` these are. A record that cannot be
    read leaves its tokens as padding."""

    def __init__(
        self,
        sources: Sequence[LatentDataset],
        packing: PackingConfig,
        patch: tuple[int, int, int],
        read_text: ReadText,
        text_slots: Sequence[int],
        bad: BadRecords,
        threads: int,
    ):
        self.sources, self.packing, self.patch, self.bad = sources, packing, patch, bad
        self.read_text, self.text_slots = read_text, text_slots
        self._readers = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="read-rows")

    def __call__(self, rows: Rows) -> dict[str, np.ndarray]:
        found = [[each for each in row if each is not None] for row in self._read_all(rows)]
        if not any(found):
            raise UserError(f"no record of step {rows.step + 1} could be read; the last: {self.bad.last}")
        whole = {"row": np.array(rows.mine, np.int32), "rows": np.int32(self.packing.rows)}
        return concatenate_rows(found, self.packing.length, self.text_slots) | whole

    def _read_all(self, rows: Rows) -> list[list[dict[str, Any] | None]]:
        waiting = [[self._readers.submit(self._read, sample) for sample in row] for row in rows.rows]
        return [[each.result() for each in row] for row in waiting]

    def _read(self, sample: Sample) -> dict[str, Any] | None:
        source = self.sources[sample.source]
        return self.bad.attempt(lambda: source.key_of(sample.record), lambda: self._tokens(source, sample))

    def _tokens(self, source: LatentDataset, sample: Sample) -> dict[str, Any]:
        record = source[sample.record]
        time_step = self.sources[0].fps / source.fps
        tokens = tokens_of(record["latents"], self.read_text(record, sample.kind), self.patch, record["clip"], time_step)
        if length_of(tokens) != sample.tokens:  # it would run into the next sample of its row
            raise ValueError(f"it has {length_of(tokens)} tokens, and the index says {sample.tokens}")
        return tokens


def packed_batches(
    sources: Mapping[str, LatentDataset],
    mixture: MixtureConfig,
    packing: PackingConfig,
    patch: tuple[int, int, int],
    text: TextSizes,
    read_text: ReadText,
    *,
    seed: int,
    threads: int,
    bad: BadRecords | None = None,
    mine: Sequence[int] | None = None,
) -> grain.DatasetIterator:
    """An endless iterator over packed batches, or the rows `mine` of each; `sources` are those of `mixture`, by name."""
    sizes = [sizes_of(name, source, patch) for name, source in sources.items()]
    order = RowOrder(sizes, mixture, packing, text=text, seed=seed, mine=mine)
    read = ReadRows(list(sources.values()), packing, patch, read_text, order.text_slots, bad or BadRecords(), threads)
    return iter(grain.experimental.ThreadPrefetchIterDataset(order.map(read), prefetch_buffer_size=_AHEAD))


def sizes_of(name: str, source: LatentDataset, patch: tuple[int, int, int]) -> Sizes:
    """What planning knows of a data set of latents."""
    grids = source.sizes.astype(np.int64) // np.asarray(patch)
    return Sizes(name=name, patches=grids.prod(axis=1), stills=source.sizes[:, 0] == 1, text=source.text_tokens)

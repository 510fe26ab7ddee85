"""Random scale, crop, flip and start of the windows that the VAE is trained on, so that a small data set is not learnt by heart.

What is drawn belongs to (seed, batch, row): a resume repeats it and any number of hosts draws the same. Crops come from decoded clips, of
which as many as memory allows are kept, so that a small data set is decoded once however often its windows are drawn.
"""

from collections.abc import Iterable
import dataclasses
import threading

import numpy as np
from PIL import Image

from videodit.data.dataset import ClipDataset, JoinedClips, decode_record
from videodit.data.sizes import SizePolicy, resampled_frames
from videodit.data.stills import MediaError

Size = tuple[int, int]  # height, width

_AUGMENT = 3  # what is random; the order of batches has 1 and 2 (`buckets.BucketSchedule`)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How windows are varied; nothing is by default.

    Attributes:
      scale: a window is read at up to so many times the scale at which its clip just covers it, and never above the clip's own
        resolution; log-uniform. Which part of the picture it shows is uniform.
      flip: how often a window is mirrored, left to right, from 0 to 1.
      shift: whether a window begins up to half of `max_frames` earlier or later, within its clip; an image is then any frame.
    """

    scale: float = 1.0
    flip: float = 0.0
    shift: bool = False

    def __post_init__(self):
        if self.scale < 1:
            raise ValueError(f"scale is {self.scale:g}, expected 1 or more: times the scale at which a clip covers its window")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is {self.flip:g}, expected a share from 0 to 1")

    @property
    def on(self) -> bool:
        """Whether anything is varied."""
        return self != AugmentConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What a window shows of a clip whose frames are `held` (height, width): the part `size` (height, width), which may be fractions of
    pixels, from `corner` (row, column) on; from frame `first` on; mirrored where `flipped`."""

    held: Size
    corner: Size
    size: tuple[float, float]
    first: int
    flipped: bool


def held_size(native: Size, window: Size, scale: float) -> Size:
    """The size at which a clip of `native` (height, width) is decoded for windows that are read at up to `scale` times the scale at which
    it covers them: as large as they ask for, and at most its own."""
    cover = max(window[0] / native[0], window[1] / native[1])
    return tuple(min(side, max(least, round(side * cover * scale))) for side, least in zip(native, window))


def draw_view(config: AugmentConfig, key: tuple[int, int, int], held: Size, window: Size, starts: tuple[int, int]) -> View:
    """The view that belongs to `key`, (seed, batch, row), of a clip held at `held` for a window of `window` (height, width).

    It begins at one of the frames from `starts[0]` to `starts[1]`.
    """
    zoom, row, column, flip, start = np.random.default_rng([key[0], _AUGMENT, *key[1:]]).random(5).tolist()
    fitting = min(held[0] / window[0], held[1] / window[1])  # times the scale at which it covers the window; below 1 it is enlarged
    scale = max(1.0, min(config.scale, fitting)) ** zoom
    size = tuple(min(float(side), wanted * fitting / scale) for side, wanted in zip(held, window))
    corner = tuple(int(share * (int(side - part) + 1)) for share, side, part in zip((row, column), held, size))
    first = starts[0] + int(start * (starts[1] - starts[0] + 1))
    return View(held=held, corner=corner, size=size, first=first, flipped=flip < config.flip)


def show(frames: np.ndarray, view: View, window: Size) -> np.ndarray:
    """uint8 `[T, H, W, 3]` of `window` (height, width): the part of `frames`, uint8 of `view.held`, that a view shows."""
    (top, left), (height, width) = view.corner, view.size
    if view.size == window:
        shown = frames[:, top : top + window[0], left : left + window[1]]
    else:
        box = (left, top, min(left + width, view.held[1]), min(top + height, view.held[0]))
        resize = lambda frame: np.asarray(Image.fromarray(frame).resize(window[::-1], Image.Resampling.BICUBIC, box=box))
        shown = np.stack([resize(frame) for frame in frames])
    return np.ascontiguousarray(shown[:, :, ::-1] if view.flipped else shown)


class DecodedClips:
    """Clips of a data set as frames at a policy's rate. Of those `wanted`, (record, held size), as many of the first as fit in
    `cache_bytes` are kept once they are decoded; what is read does not depend on it."""

    def __init__(self, dataset: ClipDataset | JoinedClips, policy: SizePolicy, wanted: Iterable[tuple[int, Size]], cache_bytes: int):
        self.dataset, self.policy = dataset, policy
        self._kept: dict[tuple[int, Size], threading.Lock] = {}
        self._clips: dict[tuple[int, Size], np.ndarray | None] = {}
        for record, held in dict.fromkeys(wanted):
            needed = self.frames(record) * held[0] * held[1] * 3
            if needed <= cache_bytes:
                self._kept[record, held] = threading.Lock()
                cache_bytes -= needed

    def frames(self, record: int) -> int:
        """How many frames a clip has at the policy's rate; 1 for a still."""
        return resampled_frames(int(self.dataset.sizes[record][0]), float(self.dataset.fps[record]), self.policy)

    def read(self, record: int, held: Size, first: int, frames: int) -> np.ndarray:
        """uint8 `[T, *held, 3]`: at most `frames` frames from frame `first` on.

        Raises MediaError where there is none, or one is damaged.
        """
        lock = self._kept.get((record, held))
        whole = None if lock is None else self._whole(record, held, lock)
        if whole is None:
            return self._decode(record, held, first, frames)
        if first >= len(whole):
            raise MediaError(f"{self.dataset.keys[record]}: no frame at {first / self.policy.fps:.3f} s")
        return whole[first : first + frames]

    def forget(self) -> None:
        """Gives up the decoded clips."""
        self._kept.clear()
        self._clips.clear()

    def _whole(self, record: int, held: Size, lock: threading.Lock) -> np.ndarray | None:
        """A clip that is kept; None where some of it is damaged, which windows elsewhere in it need not suffer from."""
        key = record, held
        with lock:
            if key not in self._clips:
                try:
                    self._clips[key] = self._decode(record, held, 0, self.frames(record))
                except MediaError:
                    self._clips[key] = None
            return self._clips.get(key)

    def _decode(self, record: int, held: Size, first: int, frames: int) -> np.ndarray:
        clip = self.dataset[record]
        rate = self.policy.fps if clip["frames"] > 1 else None
        return decode_record(clip, fps=rate, start=first / self.policy.fps, frames=frames, size=held)

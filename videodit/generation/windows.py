"""A clip of any length as windows that overlap on what is known: made one after another, kept part by part, and faded into each other.

What is known of a window is what its task gives and what earlier windows made, as latents wherever the two share them: a clip that went
through the VAE once a window would be worn down by it. A finished frame fades over the known frames from what was there to what the VAE
gave back, so that nowhere is a step between the two. Memory does not depend on duration: of parts and input only what a window or a
stretch of frames needs is read.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
import io
from typing import Protocol

from etils import epath
import numpy as np
from scipy import ndimage

from videodit.core.files import write_atomically
from videodit.generation.canvas import Canvas, held
from videodit.generation.generator import Made, Request
from videodit.generation.inputs import held_ends

READ_FRAMES = 16  # at a time, when a finished clip is read


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How a clip is made. Frames count along the plan's own axis, on which windows may begin before 0 and end beyond what is shown.

    `windows`: ranges of frames, in the order in which they are made; those that overlap share whole latents. `source(start, stop)`: what is
    given of frames, and what edits start from. `prompt(frame)`: of the window whose first new frame it is. `shown`: the finished clip, as
    ranges of frames one after another. `time`: frames in a latent.
    """

    size: tuple[int, int]
    windows: tuple[range, ...]
    source: Callable[[int, int], Canvas]
    prompt: Callable[[int], str]
    shown: tuple[range, ...]
    strength: float = 1.0
    negative: str = ""
    seed: int = 0
    time: int = 1

    @property
    def frames(self) -> int:
        """Of the finished clip."""
        return sum(map(len, self.shown))


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What a window gave: `frames` uint8 `[t, H, W, 3]`, and the share of each pixel in the clip, of 255, uint8 `[t, H, W]`. `latents`
    float32 `[T', H', W', C]` of one that others go on from."""

    frames: np.ndarray
    weight: np.ndarray
    latents: np.ndarray | None = None


class Parts(Protocol):
    """Where parts are kept, by the number of their window."""

    def __contains__(self, number: int) -> bool: ...
    def __getitem__(self, number: int) -> Part: ...
    def __setitem__(self, number: int, part: Part) -> None: ...


class PartFiles:
    """Parts as files of a folder: what a killed run has made is there when it is started again."""

    def __init__(self, folder: epath.PathLike):
        self.folder = epath.Path(folder)
        self._read: dict[int, Part] = {}  # the last two: a frame lies in no more windows than that

    def _path(self, number: int) -> epath.Path:
        return self.folder / f"window-{number:05d}.npz"

    def __contains__(self, number: int) -> bool:
        return self._path(number).exists()

    def __getitem__(self, number: int) -> Part:
        if number not in self._read:
            with np.load(io.BytesIO(self._path(number).read_bytes())) as stored:
                self._remember(number, Part(**stored))
        return self._read[number]

    def _remember(self, number: int, part: Part) -> None:
        self._read = dict([*self._read.items(), (number, part)][-2:])

    def __setitem__(self, number: int, part: Part) -> None:
        buffer = io.BytesIO()
        arrays = {"frames": part.frames, "weight": part.weight, "latents": part.latents}
        np.savez_compressed(buffer, **{name: array for name, array in arrays.items() if array is not None})
        write_atomically(self._path(number), buffer.getvalue())
        self._remember(number, part)


def forward(start: int, stop: int, window: int, overlap: int) -> tuple[range, ...]:
    """Windows of at most `window` frames over frames `start` to `stop` - 1, each beginning `overlap` frames before the last one's end."""
    found = [range(start, min(stop, start + window))]
    while found[-1].stop < stop:
        begin = found[-1].stop - overlap
        found.append(range(begin, min(stop, begin + window)))
    return tuple(found)


def backward(start: int, known: int, window: int, overlap: int, time: int) -> tuple[range, ...]:
    """Windows from frame `known`, where what is known begins, back to `start`: each has `overlap` known frames, whole latents of `time`
    frames, at its end. The last may begin before `start`, for its first latent is one frame."""
    found: list[range] = []
    while known > start:
        new = min(window - overlap, 1 + -(-(known - start - 1) // time) * time)
        found.append(range(known - new, known + overlap))
        known -= new
    return tuple(found)


def making(plan: Plan, parts: Parts, reach: int) -> Generator[Request, Made, None]:
    """Asks for a window at a time, is sent what was made, and keeps its part; those that are kept already are not asked for. Around what is
    made of a frame of which the rest is given, its pixels fade into it over `reach` pixels."""
    for number, window in enumerate(plan.windows):
        if number in parts:
            continue
        canvas = canvas_of(plan, parts, number)
        if canvas.given.all():
            parts[number] = Part(frames=canvas.frames, weight=np.zeros(canvas.given.shape, np.uint8))
            continue
        made = yield Request(
            prompt=plan.prompt(window.start + int(np.argmin(canvas.given.all(axis=(1, 2))))),
            negative=plan.negative,
            frames=len(window),
            height=plan.size[0],
            width=plan.size[1],
            seed=plan.seed if number == 0 else int(np.random.SeedSequence((plan.seed % 2**64, number)).generate_state(1)[0] >> 1),
            canvas=canvas if canvas.given.any() or plan.strength < 1 else None,
            strength=plan.strength,
        )
        weight = np.rint(255 * share_of_new(canvas.given, reach)).astype(np.uint8)
        goes_on = number + 1 < len(plan.windows) and not canvas.given[-1].any()  # frames that `met` changes are not those of latents
        parts[number] = Part(frames=met(made.clip, canvas.given), weight=weight, latents=made.latents if goes_on else None)


def canvas_of(plan: Plan, parts: Parts, number: int) -> Canvas:
    """What is known of a window before it is made."""
    window = plan.windows[number]
    canvas = plan.source(window.start, window.stop)
    frames, given, latents = canvas.frames.copy(), canvas.given.copy(), None
    history = np.zeros_like(given)
    for earlier, other in enumerate(plan.windows[:number]):
        both = range(max(window.start, other.start), min(window.stop, other.stop))
        if len(both):
            _lay(frames, window, parts[earlier], other, both)
            here = slice(both.start - window.start, both.stop - window.start)
            history[here] |= parts[earlier].weight[both.start - other.start : both.stop - other.start] == 255
            given[here] = True
            latents = _carried(plan, parts[earlier], window, other)
    canvas = Canvas(frames=frames, given=given, history=history, latents=latents)
    return held(canvas) if plan.strength == 1 else canvas


def _carried(plan: Plan, part: Part, window: range, earlier: range) -> np.ndarray | None:
    """The latents of a window that are those of an earlier one, which made all of their frames, up to the last; NaN for the others. The
    window's first latent, of one frame alone, is never among them."""
    ahead, rest = divmod(window.start - earlier.start, plan.time)
    if part.latents is None or ahead <= 0 or rest:
        return None
    new = (part.weight == 255).all(axis=(1, 2))
    within = range(1, 1 + (min(earlier.stop, window.stop) - window.start - 1) // plan.time)
    carried = np.full((within.stop, *part.latents.shape[1:]), np.nan, np.float32)
    for number in within:
        first = window.start - earlier.start + 1 + (number - 1) * plan.time
        if new[first : first + plan.time].all():
            carried[number] = part.latents[ahead + number]
    return carried


def met(clip: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The clip with the steps gone that it takes from known frames to new ones, where new frames lie between known ones.

    A latent ends where what is known begins, so what differs there is more than motion. The difference at each end is spread over the new
    frames, falling to none at the other (gradient-domain blending, Perez et al., "Poisson Image Editing", 2003, over time alone).
    """
    runs, count = ndimage.label(~given.any(axis=(1, 2)))
    clip = clip.astype(np.float32)
    for run in range(1, count + 1):
        inside = np.flatnonzero(runs == run)
        before, after = inside[0] - 1, inside[-1] + 1
        if before >= 0 and after < len(clip):
            share = (np.arange(1, len(inside) + 1) / (len(inside) + 1))[:, None, None, None]
            clip[inside] += (1 - share) * (clip[before] - clip[inside[0]]) + share * (clip[after] - clip[inside[-1]])
    return np.rint(np.clip(clip, 0, 255)).astype(np.uint8)


def share_of_new(given: np.ndarray, reach: int) -> np.ndarray:
    """How much of a finished clip is what a window made, `[T, H, W]` in [0, 1], where `given` bool `[T, H, W]` was known: all of what was
    not; of frames that were known whole, less the further they are from one that was not, down to the end of their run; in frames known in
    part, less over `reach` pixels."""
    some_new = ~given.all(axis=(1, 2))
    share = np.ones(given.shape, np.float32)
    if not some_new.any():
        return 0 * share
    away = ndimage.distance_transform_edt(~some_new)
    runs, count = ndimage.label(~some_new)
    for run in range(1, count + 1):
        inside = runs == run
        share[inside] = (1 - away[inside] / (away[inside].max() + 1))[:, None, None]
    for frame in np.flatnonzero(some_new & given.any(axis=(1, 2))):
        share[frame] = np.clip(1 - ndimage.distance_transform_edt(given[frame]) / (reach + 1), 0, 1)
    return share


def _lay(frames: np.ndarray, at: range, part: Part, window: range, both: range) -> None:
    """Lays what a window gave of the frames `both` over `frames`, which are those `at`."""
    here, there = (slice(both.start - each.start, both.stop - each.start) for each in (at, window))
    share = part.weight[there][..., None].astype(np.float32) / 255
    below = frames[here].astype(np.float32)
    frames[here] = np.rint(below + share * (part.frames[there] - below)).astype(np.uint8)


class Finished:
    """A clip's frames in order, as soon as the parts that are there make them final."""

    def __init__(self, plan: Plan, parts: Parts):
        self.plan, self.parts = plan, parts
        self._left = list(plan.shown)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Those that are final now and were not given before, uint8 `[H, W, 3]`."""
        while self._left:
            stretch = self._left[0]
            here = self._final(stretch[:READ_FRAMES])
            if not here:
                return
            self._left[:1] = [stretch[len(here) :]] if len(here) < len(stretch) else []
            yield from _frames_at(self.plan, self.parts, here)

    def _final(self, stretch: range) -> range:
        """The first frames of a stretch in whose windows nothing is left to make."""
        to_make = [w for n, w in enumerate(self.plan.windows) if w.stop > stretch.start and w.start < stretch.stop and n not in self.parts]
        return stretch[: max(0, min((w.start for w in to_make), default=stretch.stop) - stretch.start)]


def _frames_at(plan: Plan, parts: Parts, here: range) -> np.ndarray:
    """Final frames, uint8 `[t, H, W, 3]`."""
    frames = plan.source(here.start, here.stop).frames.copy()
    for number, window in enumerate(plan.windows):
        both = range(max(here.start, window.start), min(here.stop, window.stop))
        if len(both):
            _lay(frames, here, parts[number], window, both)
    return frames


@dataclass(frozen=True, eq=False)
class Whole:
    """A clip in one stretch, all of whose parts are there, to be read as an `Input` is."""

    plan: Plan
    parts: Parts

    @property
    def frames(self) -> int:
        return self.plan.frames

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames from `start` to `stop` - 1, uint8 `[t, H, W, 3]`; those before the first are as the first, those after the last as it."""
        (shown,) = self.plan.shown
        return held_ends(lambda first, end: _frames_at(self.plan, self.parts, shown[first:end]), len(shown), start, stop)


def finished(plan: Plan, parts: Parts) -> Iterator[np.ndarray]:
    """The frames of the clip, uint8 `[H, W, 3]`, once all of its parts are there."""
    return iter(Finished(plan, parts))

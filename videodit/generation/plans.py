"""How a task's clip is made: the windows to sample (`windows.Plan`), which of their frames are given, and what the others start from."""

from collections.abc import Callable, Sequence
import dataclasses
from dataclasses import dataclass
import functools
import math

import numpy as np

from videodit.core.errors import UserError
from videodit.data.sizes import on_time_grid
from videodit.generation.canvas import GREY, Canvas, group_of
from videodit.generation.inputs import Input, Source, size_of
from videodit.generation.tasks import Task
from videodit.generation.windows import Plan, Whole, backward, forward

STRENGTHS = {"fill": 0.9, "loop": 0.7, "connect": 0.8, "blend": 0.6, "edit": 0.7, "vary": 0.85}
_TURNS = 3  # a gap that is shorter than a third of its video has no room to go back through it


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What plans depend on: `time` frames in a latent; windows of `window` frames, `overlap` of which are known of the one before, both
    1 + k * time, the first more than the other; `fps` of the clip that is made; `size` (height, width) where a task has none, and
    `size_of` an input."""

    time: int
    window: int
    overlap: int
    fps: float
    size: tuple[int, int]
    size_of: Callable[[Source], tuple[int, int]]

    @classmethod
    def of(cls, generator, fps: float, size: tuple[int, int]) -> "Trained":
        """Of a `Generator`: as long as the clips that it was trained on, and half of that overlapping."""
        time, policy = generator.time, generator.policy
        window = on_time_grid(max(1 + time, round(policy.max_frames * fps / policy.fps)), time)  # two latents at least
        overlap = 1 + (window - 1) // time // 2 * time
        return cls(time=time, window=window, overlap=overlap, fps=fps, size=size, size_of=lambda source: size_of(source, policy))

    @property
    def known(self) -> int:
        """Frames of whole latents that are known at the end of a window: at least one latent."""
        return max(self.time, self.overlap - 1)


def plan(task: Task, trained: Trained, base: Input | Whole | None = None) -> Plan:
    """How the task's clip is made; a loop of the prompt alone is made of `base`, a clip made before (`before`).

    Raises UserError where the task cannot be done with these inputs.
    """
    size = size_for(task, trained)
    inputs = [] if task.task == "image" else [Input(source, size, trained.fps) for source in task.inputs]
    if base is not None:
        inputs = [base]
    made = _PLANS[task.task](task, trained, inputs, size)
    in_part = task.region is not None or task.mask is not None
    usual = 1.0 if task.task == "fill" and in_part else STRENGTHS.get(task.task, 1.0)  # what was in a region goes
    told = {"seed": task.seed, "negative": task.negative or "", "strength": task.strength or usual}
    return dataclasses.replace(made, time=trained.time, **told)


def size_for(task: Task, trained: Trained) -> tuple[int, int]:
    """(height, width) of a task's clip."""
    return task.size or (trained.size_of(task.inputs[0]) if task.inputs else trained.size)


def before(task: Task, trained: Trained) -> Task | None:
    """The task whose clip this one is made of: a loop's without an input; else None."""
    if task.task != "loop" or task.inputs:
        return None
    frames = _frames_of(task, trained)
    most = frames - trained.time
    if most < 1:
        raise UserError(f"a loop of {frames} frames has no room to go over: ask for {(1 + trained.time) / trained.fps:g} seconds or more")
    return dataclasses.replace(task, task="text", strength=None, seconds=(frames - _gap(frames, trained)) / trained.fps)


def _frames(seconds: float, trained: Trained) -> int:
    return max(1, round(seconds * trained.fps))


def _frames_of(task: Task, trained: Trained) -> int:
    if task.seconds is not None:
        return _frames(task.seconds, trained)
    if task.storyboard:
        return _frames(sum(seconds for seconds, _ in task.storyboard), trained)
    return trained.window


def _prompt(task: Task, trained: Trained, first: int = 0) -> Callable[[int], str]:
    """The prompt at a frame; a storyboard begins with frame `first`, and its last scene goes on."""
    if not task.storyboard:
        return lambda frame: task.prompt
    ends = first + np.cumsum([seconds * trained.fps for seconds, _ in task.storyboard])

    def at(frame: int) -> str:
        return task.storyboard[min(int(np.searchsorted(ends, frame + 0.5)), len(ends) - 1)][1]

    return at


def _nothing(frames: int, size: tuple[int, int]) -> Canvas:
    return Canvas(frames=np.full((frames, *size, 3), GREY, np.uint8), given=np.zeros((frames, *size), bool))


def _source(read: Callable[[int, int], np.ndarray], given: Callable[[np.ndarray], np.ndarray]) -> Callable[[int, int], Canvas]:
    """A plan's source of frames that are read, those `given(numbers)` as bool `[T]` or `[T, H, W]`."""

    def source(start: int, stop: int) -> Canvas:
        frames, known = read(start, stop), given(np.arange(start, stop))
        known = known.reshape(known.shape + (1,) * (3 - known.ndim))
        return Canvas(frames=frames, given=np.broadcast_to(known, frames.shape[:3]))

    return source


def _text(task, trained, inputs, size) -> Plan:
    frames = _frames_of(task, trained)
    return Plan(
        size=size,
        windows=forward(0, frames, trained.window, trained.overlap),
        source=lambda start, stop: _nothing(stop - start, size),
        prompt=_prompt(task, trained),
        shown=(range(frames),),
    )


def _image(task, trained, inputs, size) -> Plan:
    frames = _frames_of(task, trained)
    if len(task.inputs) > 1 + (frames - 1) // trained.time:
        raise UserError(
            f"{len(task.inputs)} images are more than a clip of {frames} frames can be given, {1 + (frames - 1) // trained.time}: "
            f"ask for {(1 + (len(task.inputs) - 1) * trained.time) / trained.fps:g} seconds or more, or give fewer"
        )
    at = task.at or tuple(np.linspace(0, (frames - 1) / trained.fps, len(task.inputs)))
    stills: dict[int, np.ndarray] = {}
    for place, source in zip(at, task.inputs):
        frame = frames - 1 if place == "end" else round(place * trained.fps)
        if not 0 <= frame < frames:
            raise UserError(f"an image at {place:g} s lies outside a clip of {frames / trained.fps:g} seconds")
        still = Input(source, size, trained.fps).read(0, 1)[0]
        for each in group_of(frame, trained.time):
            if each in stills:
                raise UserError(f"two images lie within {trained.time} frames at {place} s, which share a latent: move one")
            stills[each] = still
    if all(frame in stills for frame in range(frames)):
        raise UserError(f"images fill all {frames} frames: ask for more than {frames / trained.fps:g} seconds, or give fewer")

    def source(start: int, stop: int) -> Canvas:
        canvas = _nothing(stop - start, size)
        for frame in range(start, stop):
            if frame in stills:
                canvas.frames[frame - start], canvas.given[frame - start] = stills[frame], True
        return canvas

    windows = forward(0, frames, trained.window, trained.overlap)
    return Plan(size=size, windows=windows, source=source, prompt=_prompt(task, trained), shown=(range(frames),))


def _extend(task, trained, inputs, size) -> Plan:
    (video,) = inputs
    new = _frames_of(task, trained) if task.seconds is not None or task.storyboard else 0
    if task.direction == "backward":
        new = new or trained.window - trained.known
        known = lambda frames: frames >= 0
        windows, shown = backward(-new, 0, trained.window, trained.known, trained.time), range(-new, video.frames)
    else:
        overlap = min(trained.overlap, on_time_grid(video.frames, trained.time))
        new = new or trained.window - overlap
        known = lambda frames: frames < video.frames
        first = forward(video.frames - overlap, video.frames + new, trained.window, trained.overlap)
        windows, shown = first, range(video.frames + new)
    return Plan(
        size=size,
        windows=windows,
        source=_source(video.read, known),
        prompt=_prompt(task, trained, shown.start if task.direction == "backward" else video.frames),
        shown=(shown,),
    )


def _made_in(task: Task, trained: Trained, size: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray] | None:
    """Of frames by their numbers: which pixels are made, bool `[T, H, W]`, where that is a part of the picture; else None."""
    if task.mask is not None:
        mask = Input(task.mask, size, trained.fps)
        if mask.frames == 1 and mask.read(0, 1).max() <= GREY:
            raise UserError(f"the mask of {task.task} has nothing white: paint white what is to be made")
        return lambda numbers: mask.read(int(numbers[0]), int(numbers[-1]) + 1).mean(axis=-1) > GREY
    if task.region is None:
        return None
    left, top, right, bottom = (round(share * side) for share, side in zip(task.region, (size[1], size[0]) * 2))
    inside = np.zeros(size, bool)
    inside[top : max(bottom, top + 1), left : max(right, left + 1)] = True  # a pixel at least
    return lambda numbers: np.broadcast_to(inside, (len(numbers), *size))


def cross_fade(before: np.ndarray, after: np.ndarray, frames: int) -> np.ndarray:
    """`frames` frames between two, all uint8 `[..., H, W, 3]`."""
    share = (np.arange(1, frames + 1) / (frames + 1))[:, None, None, None]
    return np.rint((1 - share) * before + share * after).astype(np.uint8)


def _fill(task, trained, inputs, size) -> Plan:
    (video,) = inputs
    frames = np.zeros(video.frames, bool)
    for start, stop in task.missing or ((0.0, video.frames / trained.fps),):
        first, last = math.floor(start * trained.fps + 1e-6), math.ceil(stop * trained.fps - 1e-6)
        if first >= video.frames:
            raise UserError(f"missing is {start:g}-{stop:g}, but the video ends at {video.frames / trained.fps:g} s")
        frames[first:last] = True
    region = _made_in(task, trained, size)
    if frames.all() and region is None:
        raise UserError("all of the video is missing: leave something of it, or ask for task text")

    def given(numbers: np.ndarray) -> np.ndarray:
        missing = frames[np.clip(numbers, 0, video.frames - 1)]  # windows may reach beyond a video that has no beginning or no end
        return ~missing if region is None else ~(missing[:, None, None] & region(numbers))

    edges = np.flatnonzero(np.diff(np.concatenate([[0], frames.astype(int), [0]]))).reshape(-1, 2)

    @functools.cache
    def faded(first: int, last: int) -> np.ndarray:
        ends = [video.read(each, each + 1)[0] for each in (first - 1, last) if 0 <= each < video.frames]
        return cross_fade(ends[0], ends[-1], last - first)

    def read(start: int, stop: int) -> np.ndarray:
        found, numbers = video.read(start, stop), np.clip(np.arange(start, stop), 0, video.frames - 1)
        for first, last in edges.tolist() if region is None else ():
            here = (numbers >= first) & (numbers < last)
            if here.any():
                found[here] = faded(first, last)[numbers[here] - first]
        return found

    windows = [window for start, stop in edges.tolist() for window in _windows_of_gap(start, stop, video.frames, trained)]
    shown = (range(video.frames),)
    return Plan(size=size, windows=tuple(windows), source=_source(read, given), prompt=lambda frame: task.prompt, shown=shown)


def _windows_of_gap(start: int, stop: int, frames: int, trained: Trained) -> Sequence[range]:
    """Windows that make frames `start` to `stop` - 1 of `frames`, the others of which are known. A gap that one window cannot make beside
    known frames is made forward, and its last window meets what comes after; without anything before it, backward."""
    window, overlap, time = trained.window, trained.overlap, trained.time
    if start == 0 and stop == frames:
        return forward(0, stop, window, overlap)
    between = start > 0 and stop < frames
    most = max(time, window - time - between)  # beside a latent that is known; before a gap that is a frame at least
    if stop - start <= most:
        return (_around(start, stop, frames, trained),)
    if start == 0:
        return backward(0, stop, window, trained.known, time)
    known = min(overlap, on_time_grid(start, time))
    if stop == frames:
        return forward(start - known, stop, window, overlap)
    found: list[range] = []
    while stop - start > most:
        new = min(window - known, (stop - start - 1) // time * time)  # a frame at least is left to the last window
        found.append(range(start - known, start + new))
        start, known = start + new, overlap
    return *found, _around(start, stop, frames, trained)


def _around(start: int, stop: int, frames: int, trained: Trained) -> range:
    """A window around missing frames, with what room there is for known ones shared between both sides, on the grid of latents."""
    time = trained.time
    if start == 0:
        begin = stop - 1 - -(-(stop - 1) // time) * time  # 1 + k * time frames end with the gap
        return range(begin, stop + max(time, (trained.window - (stop - begin)) // time * time))
    gap = -(-(stop - start) // time) * time
    room = max(0, trained.window - 1 - gap) // time
    after = 0 if stop >= frames else max(1, room - room // 2)
    left = min(max(0, room - after), (start - 1) // time)
    begin = start - 1 - left * time
    return range(begin, start + gap + after * time)


def _gap(frames: int, trained: Trained) -> int:
    """Frames in which a loop of so many goes over into its beginning: whole latents that leave a window room for its ends."""
    most = (frames - 1) // trained.time
    return trained.time * max(1, min(most, (trained.window - 1) // trained.time - 1))


def _loop(task, trained, inputs, size) -> Plan:
    (video,) = inputs
    time, count = trained.time, video.frames
    gap = _gap(count + trained.window, trained)
    if task.seconds is not None:
        gap = -(-max(1, round(task.seconds * trained.fps) - count) // time) * time
        if task.inputs and round(task.seconds * trained.fps) <= count:
            raise UserError(
                f"a loop of {task.seconds:g} seconds has no room after a video of {count / trained.fps:g}: ask for more, "
                f"e.g. {(count + gap) / trained.fps:g}"
            )
    return _joined(task, trained, size, video, video, gap, closed=True)


def _connect(task, trained, inputs, size) -> Plan:
    first, second = inputs
    gap = trained.time * max(1, (trained.window - 1) // trained.time - 1)
    if task.seconds is not None:
        gap = -(-max(1, round(task.seconds * trained.fps)) // trained.time) * trained.time
    return _joined(task, trained, size, first, second, gap, closed=False)


def _joined(task, trained, size, first, second, gap: int, closed: bool) -> Plan:
    """`first`, `gap` new frames, `second`; `closed`: both are one, and what fades in of its beginning goes to the front."""
    join = first.frames + gap
    windows = _windows_of_gap(first.frames, join, join + second.frames, trained)

    @functools.cache
    def between() -> np.ndarray:
        if closed and first.frames <= _TURNS * gap:
            back = np.rint(np.linspace(first.frames - 1, 0, gap + 2)[1:-1]).astype(int)
            return first.read(0, first.frames)[back]
        return cross_fade(first.read(first.frames - 1, first.frames)[0], second.read(0, 1)[0], gap)

    def read(start: int, stop: int) -> np.ndarray:
        pieces = [(first.read, 0, min(start, 0), first.frames), (lambda a, b: between()[a:b], first.frames, first.frames, join)]
        pieces += [(second.read, join, join, max(stop, join))]
        spans = [(part, zero, max(start, low), min(stop, high)) for part, zero, low, high in pieces]
        return np.concatenate([part(low - zero, high - zero) for part, zero, low, high in spans if low < high])

    shown = (range(join + second.frames),)
    if closed:
        faded = min(windows[-1].stop - join, first.frames)
        shown = range(join, join + faded), range(faded, join)
    source = _source(read, lambda frames: (frames < first.frames) | (frames >= join))
    return Plan(size=size, windows=tuple(windows), source=source, prompt=lambda frame: task.prompt, shown=shown)


def _blend(task, trained, inputs, size) -> Plan:
    first, second = inputs
    frames = min(first.frames, second.frames)
    if frames < 1 + 2 * trained.time:
        raise UserError(f"the shorter video has {frames} frames, too few to blend: expected {1 + 2 * trained.time} or more")
    last = on_time_grid(frames, trained.time)

    def read(start: int, stop: int) -> np.ndarray:
        share = np.clip(np.arange(start, stop) / (frames - 1), 0, 1)[:, None, None, None]
        mixed = (1 - share) * first.read(start, stop) + share * second.read(start, stop)
        return np.rint(mixed).astype(np.uint8)

    ends = lambda numbers: (numbers <= 0) | (numbers >= last - trained.time)
    return Plan(
        size=size,
        windows=forward(0, frames, trained.window, trained.overlap),
        source=_source(read, ends),
        prompt=lambda frame: task.prompt,
        shown=(range(frames),),
    )


def _edit(task, trained, inputs, size) -> Plan:
    (video,) = inputs
    region = _made_in(task, trained, size)
    keep = lambda numbers: np.zeros((len(numbers), *size), bool) if region is None else ~region(numbers)
    return Plan(
        size=size,
        windows=forward(0, video.frames, trained.window, trained.overlap),
        source=_source(video.read, keep),
        prompt=_prompt(task, trained),
        shown=(range(video.frames),),
    )


_PLANS = {
    "text": _text,
    "image": _image,
    "extend": _extend,
    "fill": _fill,
    "loop": _loop,
    "connect": _connect,
    "blend": _blend,
    "edit": _edit,
    "vary": _edit,
}

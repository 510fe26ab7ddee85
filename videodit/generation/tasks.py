"""Every generation task as one thing: a canvas of what is known, a noise level to start from, and a prompt.

`Task` says what is wanted, in the same words in Python, on the command line, in a file of prompts and beside each output. `plan` makes of
it the windows to sample (`windows.Plan`): which of their frames are given, and what the others start from.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
import functools
import math
from typing import Any, Literal, get_args

import numpy as np

from videodit.core.config import nearest, read
from videodit.core.errors import UserError
from videodit.core.flags import parse_size
from videodit.data.sizes import on_time_grid
from videodit.generation.canvas import GREY, Canvas, group_of
from videodit.generation.inputs import Input, Source, size_of
from videodit.generation.windows import Plan, Whole, backward, forward

Kind = Literal["text", "image", "extend", "fill", "loop", "connect", "blend", "edit", "vary"]

# Of each kind: how many inputs it takes, at least and at most, and which fields have a meaning for it.
INPUTS = {
    "text": (0, 0),
    "image": (1, 16),
    "extend": (1, 1),
    "fill": (1, 1),
    "loop": (0, 1),
    "connect": (2, 2),
    "blend": (2, 2),
    "edit": (1, 1),
    "vary": (1, 1),
}
TAKES = {
    "text": ("seconds", "storyboard"),
    "image": ("seconds", "storyboard", "at"),
    "extend": ("seconds", "storyboard", "direction"),
    "fill": ("missing", "region", "mask", "strength"),
    "loop": ("seconds", "strength"),
    "connect": ("seconds", "strength"),
    "blend": ("strength",),
    "edit": ("strength", "region", "mask", "storyboard"),
    "vary": ("strength", "region", "mask", "storyboard"),
}
STRENGTHS = {"fill": 0.9, "loop": 0.7, "connect": 0.8, "blend": 0.6, "edit": 0.7, "vary": 0.85}
_TURNS = 3  # a gap that is shorter than a third of its video has no room to go back through it


@dataclass(frozen=True, kw_only=True)
class Task:
    """One clip to make.

    Attributes:
      task: "text": of the prompt alone. "image": of images at times of their own. "extend": a video, on or back. "fill": a video's missing
        times, or a region of it. "loop": a video, or where none is given a new one, that goes over into its own beginning. "connect": two
        videos with what lies between. "blend": of two videos, one that is the first and becomes the second. "edit": a video as another
        prompt says (SDEdit; Meng et al., 2022). "vary": a video or image, like it.
      prompt, negative: what is to be seen, and what not. `negative` None: the config's.
      size: (height, width) in pixels, any; None: that at which a clip like the first input is trained, else the config's first.
      seconds: of the whole clip; of what is added (extend, connect). 0: one frame. None: as long as clips are trained.
      seed: equal seeds give equal noise.
      inputs: paths of videos or images of any size and rate, or the bytes of such files.
      at: where images lie, in seconds, or "end"; by default evenly from the first frame to the last. A later one than the first holds
        for the frames that share its latent.
      direction: of "extend".
      missing: of "fill", (from, to) in seconds of the input.
      region: what of the picture is made, (left, top, right, bottom) as shares of its sides.
      mask: the same as a picture or a video that is white where the clip is made, laid over the clip as its input is.
      strength: how much of what a clip starts from is lost in noise before it is made anew, more than 0 to 1. Edits and variations start
        from the input, blends from both mixed, what is missing or connects from a cross-fade of what is around it, and a loop's way back
        from the video played backwards.
      storyboard: (seconds, prompt) of one scene after another, in place of `prompt`, and of `seconds` where that is None.
    """

    task: Kind = "text"
    prompt: str = ""
    negative: str | None = None
    size: tuple[int, int] | None = None
    seconds: float | None = None
    seed: int = 0
    inputs: tuple[str | bytes, ...] = ()
    at: tuple[float | Literal["end"], ...] = ()
    direction: Literal["forward", "backward"] | None = None
    missing: tuple[tuple[float, float], ...] = ()
    region: tuple[float, float, float, float] | None = None
    mask: str | bytes | None = None
    strength: float | None = None
    storyboard: tuple[tuple[float, str], ...] = ()

    def __post_init__(self):
        if self.task not in get_args(Kind):
            raise UserError(f"task is {self.task!r}{nearest(str(self.task), get_args(Kind))}")
        least, most = INPUTS[self.task]
        if not least <= len(self.inputs) <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise UserError(f"{self.task} is given {len(self.inputs)} inputs, expected {expected}")
        for name in ("seconds", "at", "direction", "missing", "region", "mask", "strength", "storyboard"):
            if getattr(self, name) not in (None, ()) and name not in TAKES[self.task]:
                raise UserError(f"{self.task} takes no {name}; it takes {', '.join(TAKES[self.task])}")
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"size is {self.size[1]}x{self.size[0]}, expected 1x1 or more")
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise UserError(f"seconds is {self.seconds:g}, expected 0 or more")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise UserError(f"strength is {self.strength:g}, expected more than 0, which keeps all, to 1, which keeps nothing")
        if self.at and len(self.at) != len(self.inputs):
            raise UserError(f"at has {len(self.at)} times for {len(self.inputs)} images, expected one for each")
        if self.region is not None and self.mask is not None:
            raise UserError(f"{self.task} has both a region and a mask: draw the region in the mask, or leave one out")
        if self.task == "fill" and not self.missing and self.region is None and self.mask is None:
            raise UserError("fill is told neither what times are missing nor what region or mask, e.g. missing 0.5-1.0")
        for start, stop in self.missing:
            if not 0 <= start < stop:
                raise UserError(f"missing is {start:g}-{stop:g}, expected seconds FROM-TO, from 0 on, FROM before TO")
        if self.region is not None:
            left, top, right, bottom = self.region
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise UserError(f"region is {list(self.region)}, expected left,top,right,bottom from 0 to 1, e.g. 0.25,0.25,0.75,0.75")
        for seconds, _ in self.storyboard:
            if not seconds > 0:
                raise UserError(f"storyboard has a scene of {seconds:g} seconds, expected more than 0")


def read_task(section: Mapping[str, Any], default: Task | None = None) -> Task:
    """A task of a line of JSON; what it does not say is as in `default`. A size may be "WIDTHxHEIGHT".

    Raises UserError on a key or a value that no task has.
    """
    given = dict(section)
    if isinstance(given.get("size"), str):
        given["size"] = parse_size(given["size"], "size")
    known = {} if default is None else {f.name: getattr(default, f.name) for f in dataclasses.fields(Task)}
    return read(Task, known | given)


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
    if stop - start <= max(time, window - time - (0 if start == 0 or stop == frames else 1)) and stop - start < frames:
        return (_around(start, stop, frames, trained),)
    if start == 0 and stop < frames:
        return backward(0, stop, window, trained.known, time)
    known = min(overlap, on_time_grid(start, time)) if start else 0
    if stop == frames:
        return forward(start - known, stop, window, overlap)
    found: list[range] = []
    while stop - start > max(time, window - time - 1):
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


def describe(task: Task) -> dict[str, Any]:
    """The task as JSON: what is not by default; files given as bytes by their length alone."""
    name_of = lambda source: source if isinstance(source, str) else f"{len(source)} bytes"
    fields = {field.name: (getattr(task, field.name), field.default) for field in dataclasses.fields(task)}
    told = {name: value for name, (value, default) in fields.items() if value != default or name in ("task", "prompt", "seed")}
    if "size" in told:
        told["size"] = f"{task.size[1]}x{task.size[0]}"
    if "inputs" in told:
        told["inputs"] = [name_of(each) for each in task.inputs]
    if "mask" in told:
        told["mask"] = name_of(task.mask)
    return told

"""Every generation task as one thing: a canvas of what is known, a noise level to start from, and a prompt.

`Task` says what is wanted, in the same words in Python, on the command line, in a file of prompts and beside each output. `plans.plan` says
how it is made.
"""

from collections.abc import Mapping
import dataclasses
from dataclasses import dataclass
import math
from typing import Any, Literal, get_args

from videodit.core.config import nearest, read
from videodit.core.errors import UserError
from videodit.core.flags import parse_size

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

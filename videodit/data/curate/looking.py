"""One look at every frame of a file: the numbers that all stages of curation decide by, and the cuts."""

from array import array

import av
from av.video.reformatter import Interpolation, VideoReformatter
import numpy as np

from videodit.data.curate import bars
from videodit.data.curate.hashing import perceptual_hash
from videodit.data.curate.measures import sharpness
from videodit.data.curate.shots import CutDetector
from videodit.data.curate.trimming import BLACK_LUMA, CHANGE_LUMA
from videodit.data.video import Shown

# Longest side in pixels, at which frames are compared, and at which blur is judged.
_SMALL, _SHARP = 128, 512
# Blur is judged so often, and where a shot may begin: the picture changes by so much luma, and by so many times what it did before.
_SHARP_EVERY_S = 1.0
_JUMP, _JUMP_TIMES = 8.0, 2.0

_COLUMNS = {
    "time": "d",  # seconds at which it comes on screen
    "span": "d",  # seconds on screen
    "brightness": "f",  # mean luma, 0 to 255
    "lit": "f",  # share of pixels brighter than BLACK_LUMA
    "change": "f",  # mean absolute difference of luma from the frame before, 0 to 255
    "changed": "f",  # share of pixels that differ by more than CHANGE_LUMA from the frame before
    "sharpness": "f",  # NaN where it was not judged
    "hash": "Q",
    "bars": "i",  # four a frame: top, bottom, left, right, in stored pixels turned upright
    "edges": "b",  # four a frame
}


class Track:
    """Numbers of every frame of a file, about 80 bytes each, so that hours of video fit in memory."""

    def __init__(self):
        self._columns = {name: array(code) for name, code in _COLUMNS.items()}

    def add(self, **values: float | tuple[float, ...]) -> None:
        """Takes the numbers of the next frame."""
        for name, column in self._columns.items():
            value = values[name]
            column.extend(value) if isinstance(value, tuple) else column.append(value)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns every column, `[T]` or `[T, 4]`."""
        arrays = {name: np.array(column) for name, column in self._columns.items()}
        return arrays | {name: arrays[name].reshape(-1, 4) for name in ("bars", "edges")}


class Looker:
    """Takes the frames of one file in order and keeps what there is to know of them in `track` and `cuts`.

    Frames are scaled down once, to a longest side of 128 pixels; only frames with black edges (for bars) and one a second (for blur) are
    looked at larger.
    """

    def __init__(self, *, shots: bool, letterbox: bool):
        self.track = Track()
        self.stored = (0, 0)  # (height, width) of the first frame, turned upright, as it is stored
        self._cuts = CutDetector() if shots else None
        self._letterbox = letterbox
        self._scale, self._grey, self._bars, self._sharp = (VideoReformatter() for _ in range(4))
        self._small: tuple[int, int] | None = None
        self._before: np.ndarray | None = None
        self._judged, self._changed_before = -np.inf, 0.0

    @property
    def cuts(self) -> list[int]:
        """Numbers of the frames that begin a new shot."""
        return self._cuts.cuts if self._cuts else []

    def add(self, shown: Shown) -> None:
        """Looks at the next frame."""
        frame, quarters = shown.frame, round(shown.frame.rotation / 90)
        upright = (frame.width, frame.height) if quarters % 2 else (frame.height, frame.width)
        if self._small is None:
            self._small, self.stored = _within(frame, _SMALL), upright
        height, width = self._small
        small = self._scale.reformat(frame, width=width, height=height, format="bgr24", interpolation=Interpolation.AREA, threads=1)
        if self._cuts:
            self._cuts.add(small.to_ndarray())
        luma = np.rot90(self._grey.reformat(small, format="gray", threads=1).to_ndarray(), quarters)
        strips = bars.NONE
        if self._letterbox and upright == self.stored and bars.may_have_bars(luma):
            full = self._bars.reformat(frame, format="gray", threads=1).to_ndarray()
            strips = bars.find_bars(full).turned(quarters)
        change, changed = self._difference(luma)
        self.track.add(
            time=shown.time,
            span=shown.span,
            brightness=luma.mean(),
            lit=np.count_nonzero(luma > BLACK_LUMA) / luma.size,
            change=change,
            changed=changed,
            sharpness=self._sharpness(shown, change),
            hash=perceptual_hash(_inside(luma, strips, self.stored)),
            bars=strips[:4],
            edges=strips[4:],
        )

    def _difference(self, luma: np.ndarray) -> tuple[float, float]:
        before, self._before = self._before, luma
        if before is None:
            return 0.0, 0.0
        difference = np.maximum(luma, before) - np.minimum(luma, before)
        return float(difference.mean()), np.count_nonzero(difference > CHANGE_LUMA) / difference.size

    def _sharpness(self, shown: Shown, change: float) -> float:
        jump = change >= max(_JUMP, _JUMP_TIMES * self._changed_before)
        self._changed_before = change
        if shown.time - self._judged < _SHARP_EVERY_S and not jump:
            return np.nan
        self._judged = shown.time
        height, width = _within(shown.frame, _SHARP)
        luma = self._sharp.reformat(shown.frame, width=width, height=height, format="gray", interpolation=Interpolation.AREA, threads=1)
        return sharpness(luma.to_ndarray())


def _within(frame: av.VideoFrame, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(frame.height, frame.width))
    return max(8, round(frame.height * scale)), max(8, round(frame.width * scale))


def _inside(luma: np.ndarray, strips: bars.Bars, stored: tuple[int, int]) -> np.ndarray:
    """Returns the part of a small frame within the frame's bars, so that a letterboxed copy hashes as the original does."""
    if strips == bars.NONE:
        return luma
    (height, width), down, across = luma.shape, luma.shape[0] / stored[0], luma.shape[1] / stored[1]
    top, bottom = (round(thick * down) if edge else 0 for thick, edge in zip(strips[:2], strips[4:6]))
    left, right = (round(thick * across) if edge else 0 for thick, edge in zip(strips[2:4], strips[6:]))
    return luma[top : max(top + 1, height - bottom), left : max(left + 1, width - right)]

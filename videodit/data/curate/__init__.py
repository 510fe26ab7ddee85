"""Finds clips in a media file and cuts them out: every file is one clip, whole and untouched."""

import dataclasses
from typing import Any

from etils import epath
import numpy as np

from videodit.data import media

_HASH = (8, 9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """How clips are found and which are kept.

    Attributes:
      near_duplicate_bits: clips whose hashes differ in no more than so many of 64 bits are near-duplicates, of which the first stays;
        None keeps all.
    """

    near_duplicate_bits: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A clip in a file: `start` and `end` in seconds, `crop` (top, left, height, width) or None, and why it is left out or None."""

    start: float
    end: float
    frames: int
    fps: float
    crop: tuple[int, int, int, int] | None
    measures: dict[str, float | str]
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """What a file is, and the clips in it."""

    info: media.MediaInfo
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Examination":
        """Returns what `to_json` was called on."""
        return cls(info=media.MediaInfo(**values["info"]), candidates=tuple(Candidate(**each) for each in values["candidates"]))


def examine(source: media.Source, config: CurateConfig) -> Examination:
    """Decodes a file whole. Raises MediaError where it is broken."""
    info = media.check(source)
    grey = media.decode(source, frames=1, size=_HASH)[0].astype(np.float64).mean(-1)
    digits = f"{int(''.join(str(int(bit)) for bit in (np.diff(grey) > 0).ravel()), 2):016x}"
    whole = Candidate(start=0.0, end=info.duration, frames=info.frames, fps=info.fps, crop=None, measures={"hash": digits})
    return Examination(info=info, candidates=(whole,))


def cut(source: media.Source, info: media.MediaInfo, candidate: Candidate) -> tuple[bytes, dict[str, Any]]:
    """Returns the media bytes of a record, and its fields."""
    content = source if isinstance(source, bytes) else epath.Path(source).read_bytes()
    return content, {"format": info.format, "height": info.height, "width": info.width, "frames": candidate.frames, "fps": candidate.fps}

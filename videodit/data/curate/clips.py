"""What curation finds in a file."""

import dataclasses
from typing import Any

from videodit.data.media import MediaInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One clip found in a file.

    Attributes:
      start: seconds after the file's first frame.
      end: seconds, after its last frame's time on screen.
      frames: that its record has at `fps`.
      fps: frames a second.
      crop: (top, left, height, width) in pixels of the upright picture, or None for all of it.
      measures: motion (videos only), sharpness and brightness in the units of `CurateConfig`; hash, 16 hex digits.
      reason: why it is left out, one line that names measure, value and limit; None where it is kept.
    """

    start: float
    end: float
    frames: int
    fps: float
    crop: tuple[int, int, int, int] | None
    measures: dict[str, float | str]
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """What a file is, and the clips in it in the order of time."""

    info: MediaInfo
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Examination":
        """Returns what `to_json` was called on."""
        candidates = (each | {"crop": tuple(each["crop"]) if each["crop"] else None} for each in values["candidates"])
        return cls(info=MediaInfo(**values["info"]), candidates=tuple(Candidate(**each) for each in candidates))

"""Cuts a clip out of its file."""

from collections.abc import Iterator
import itertools
from typing import Any

from etils import epath
import numpy as np

from videodit.data import media
from videodit.data.curate.clips import Candidate
from videodit.data.curate.examining import SAMPLE_AT


def cut(source: media.Source, info: media.MediaInfo, candidate: Candidate) -> tuple[bytes, dict[str, Any]]:
    """Returns the media bytes of a clip's record and its fields `format`, `height`, `width`, `frames`, `fps`.

    A clip that is the whole file, uncropped, is the file's own bytes. Any other is decoded from a keyframe near its start, resampled by
    timestamps to its rate, cropped and encoded as `media.encode_video` does: the same clip is the same bytes.

    Raises:
      MediaError: where the file no longer holds the clip.
    """
    whole = candidate.crop is None and candidate.start == 0.0 and candidate.end == info.duration and candidate.frames == info.frames
    fields = {"format": info.format, "height": info.height, "width": info.width, "frames": candidate.frames, "fps": candidate.fps}
    if whole:
        return source if isinstance(source, bytes) else epath.Path(source).read_bytes(), fields
    top, left, height, width = candidate.crop or (0, 0, info.height, info.width)
    frames = (frame[top : top + height, left : left + width] for frame in _frames(source, candidate))
    fields |= {"height": height, "width": width}
    if candidate.frames == 1:
        return media.encode_image(next(frames)), fields | {"format": "png"}
    return media.encode_stream(frames, candidate.fps), fields | {"format": "mp4"}


def _frames(source: media.Source, candidate: Candidate) -> Iterator[np.ndarray]:
    start = candidate.start + SAMPLE_AT / candidate.fps
    count = 0
    for frame in itertools.islice(media.stream_frames(source, fps=candidate.fps, start=start), candidate.frames):
        yield frame
        count += 1
    if count < candidate.frames:
        raise media.MediaError(f"holds {count} of the {candidate.frames} frames from {candidate.start:.3f} s on that it had")

"""Clips that a task is given: files of any kind, size and rate, read as frames of one size and rate, a part at a time."""

from collections.abc import Callable
import functools
import hashlib
import itertools

from etils import epath
import numpy as np

from videodit.core.errors import UserError
from videodit.data import media
from videodit.data.media import MediaError, MediaInfo
from videodit.data.sizes import SizePolicy, fit

Source = str | bytes  # a path, or the bytes of a file, as `media.encode_video(frames, fps, lossless=True)` makes them of frames


class Input:
    """A file as `frames` frames of `size` (height, width), `fps` a second; a still has one. Scaled to cover the size, cut evenly."""

    def __init__(self, source: Source, size: tuple[int, int], fps: float):
        self.source, self.size, self.fps = source, size, fps
        self.frames = _told(source, lambda: _count(source, fps))
        self._next, self._stream = 0, None  # the frame that the stream gives next

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames from `start` to `stop` - 1, uint8 `[t, H, W, 3]`; those before the first are as the first, those after the last as it."""
        return held_ends(lambda first, end: _told(self.source, lambda: self._frames(first, end)), self.frames, start, stop)

    def _frames(self, first: int, stop: int) -> np.ndarray:
        """Frames that are there; what is read in order is decoded once."""
        if self._stream is None or first != self._next:
            self._stream = media.stream_frames(self.source, fps=self.fps, start=first / self.fps, size=self.size)
        found = list(itertools.islice(self._stream, stop - first))
        self._next = first + len(found)
        if not found:
            raise MediaError(f"no frame at {first / self.fps:.3f} s")
        return np.stack(found)


def _count(source: Source, fps: float) -> int:
    """Frames of a file, which is decoded once for all tasks, unless it changes."""
    if isinstance(source, bytes):
        return media.count_frames(source, fps=fps)
    stat = epath.Path(source).stat()
    return _count_as_it_stands(source, fps, stat.mtime, stat.length)


@functools.lru_cache(maxsize=4096)
def _count_as_it_stands(source: str, fps: float, changed: float, length: int) -> int:
    return media.count_frames(source, fps=fps)


def held_ends(read: Callable[[int, int], np.ndarray], frames: int, start: int, stop: int) -> np.ndarray:
    """Frames `start` to `stop` - 1 of a clip of `frames`, of which `read(first, end)` reads what is there; before the first they are as the
    first, after the last as it."""
    first, last = (min(max(0, frame), frames - 1) for frame in (start, stop - 1))
    found = read(first, last + 1)
    return found[np.clip(np.arange(start, stop) - first, 0, len(found) - 1)]


def size_of(source: Source, policy: SizePolicy) -> tuple[int, int]:
    """(height, width) at which a clip like this one is trained: its own aspect ratio, no larger than it is."""
    info = look(source)
    return fit(info.frames, info.height, info.width, info.fps, policy)[1:]


def look(source: Source) -> MediaInfo:
    """What the file is. Raises UserError where it is not there, or no picture or video."""
    return _told(source, functools.partial(media.probe, source))


def digest(source: Source) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(source if isinstance(source, bytes) else epath.Path(source).read_bytes()).hexdigest()


def _told(source: Source, read):
    name = source if isinstance(source, str) else f"a file of {len(source):,} bytes"
    try:
        return read()
    except FileNotFoundError:
        raise UserError(f"input {name} is not there: expected a video or an image") from None
    except (MediaError, OSError) as error:
        raise UserError(f"input {name} cannot be read as a video or an image: {error}") from error

"""Media in and out: probing, streaming decode to upright sRGB frames resampled by timestamps, deterministic encoding.

PyAV reads everything that moves, Pillow everything that does not. Pixels are `uint8 [T, H, W, 3]`; sizes are (height,
width) of the upright picture with square pixels, so after rotation and sample aspect ratio.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import io
import itertools
from typing import Literal

import av
from etils import epath
import numpy as np
from PIL import ExifTags, Image

from videodit.core.files import write_atomically
from videodit.data import stills
from videodit.data.pixels import HDR, Pixels
from videodit.data.stills import MediaError, Source
from videodit.data.video import TOLERANCE_S, Shown, Video, open_video
from videodit.data.video_writer import VideoWriter


@dataclasses.dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a header says; `frames` and `duration` (seconds) are estimates until decoded."""

    kind: Literal["video", "image"]
    format: str  # of the container: mp4, webm, png, ...
    codec: str
    height: int
    width: int
    frames: int
    fps: float
    duration: float
    hdr: bool = False


def probe(source: Source) -> MediaInfo:
    """Returns what the header and the first frame of a file say.

    Raises:
      MediaError: where no frame of it can be read.
    """
    image = stills.open_still(source)
    if image is not None:
        with image:
            return _still_info(image)
    with open_video(source) as video:
        first = next(video.frames(), None)
        if first is None:
            raise MediaError("the video stream holds no frame")
        return _video_info(video, first.frame)


def decode(
    source: Source,
    *,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decodes a clip, or the part of it that is asked for, to `uint8 [T, H, W, 3]` sRGB.

    Frame k is the picture on screen at `start + k / fps` seconds after the first frame: timestamps decide, never
    indices. With `fps=None` every frame from `start` on comes as it is. A still has one frame at every time. Decoding
    begins at a keyframe near `start` and ends with the last frame asked for.

    A picture that moves (GIF, animated PNG or WebP) is a video of its own frames; the transparent parts of anything lie
    on white; 16 bits a channel are rounded to 8; HDR is tone-mapped; interlaced frames are deinterlaced, one picture a
    frame; a stream that changes its size is scaled to how it began.

    Args:
      source: a path (local or `gs://`) or the bytes of a file.
      fps: frames a second wanted.
      start: seconds from the first frame.
      frames: the most frames wanted; the result is shorter where the clip ends before.
      size: (height, width) wanted: scaled to cover it, what sticks out is cut off evenly. None keeps the native size.

    Raises:
      MediaError: where the file is not media, a frame up to the last one asked for is corrupt, or there is none at
        `start`.
    """
    stacked = list(itertools.islice(stream_frames(source, fps=fps, start=start, size=size), frames))
    if not stacked:
        raise MediaError(f"no frame at {start:.3f} s")
    return np.stack(stacked)


def stream_frames(
    source: Source, *, fps: float | None = None, start: float = 0.0, size: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Yields the frames of `decode` one by one, `uint8 [H, W, 3]`, and holds no more than one at a time."""
    image = stills.open_still(source)
    if image is not None:
        with image:
            yield stills.still_pixels(image, size)
        return
    with open_video(source) as video:
        pixels = Pixels(video, size)
        for frame in _resample(video.frames(start), start, fps):
            yield pixels(frame)


def count_frames(source: Source, *, fps: float | None = None) -> int:
    """How many frames `decode` gives of a whole clip. Pixels are made of the first alone."""
    image = stills.open_still(source)
    if image is not None:
        with image:
            stills.still_pixels(image, None)
        return 1
    with open_video(source) as video:
        frames, pixels = _resample(video.frames(), 0.0, fps), Pixels(video, None)
        first = [pixels(frame) for frame in itertools.islice(frames, 1)]
        return len(first) + sum(1 for _ in frames)


class Whole:
    """Every frame of a file, once: iterate, and `info` then holds the true `frames`, `duration` and `fps`.

    A still is one frame. Yields `Shown`; `upright` says how a frame lies.

    Raises:
      MediaError: on the way, where any frame is corrupt or missing; damage that a player would conceal counts.
    """

    def __init__(self, source: Source):
        self._source = source
        self.info: MediaInfo | None = None

    def __iter__(self) -> Iterator[Shown]:
        image = stills.open_still(self._source)
        if image is not None:
            with image:
                pixels = stills.still_pixels(image, None)
                self.info = _still_info(image)
            yield Shown(0.0, 0.0, av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            return
        with open_video(self._source, strict=True) as video:
            yield from self._frames(video)

    def _frames(self, video: Video) -> Iterator[Shown]:
        count, end = 0, 0.0
        try:
            for shown in video.frames():
                self.info = self.info or _video_info(video, shown.frame)
                count, end = count + 1, shown.time + shown.span
                yield shown
        except (av.error.FFmpegError, MediaError) as error:
            reason = error if isinstance(error, MediaError) else f"broken data: {error.strerror or type(error).__name__}"
            of = f" of {self.info.duration:.2f} s" if self.info else ""
            raise MediaError(f"{reason}, after {count} good frames, {end:.2f} s{of}") from error
        if not count:
            raise MediaError("the video stream holds no frame")
        self.info = _true_info(self.info, count, end, trusted=bool(video.stream.duration or not video.container.streams.audio))


def check(source: Source) -> MediaInfo:
    """Decodes every frame of a file and returns its info with true `frames` and `duration`.

    Raises:
      MediaError: where any frame is corrupt or missing.
    """
    whole = Whole(source)
    for _ in whole:
        pass
    return whole.info


def encode_image(frame: np.ndarray) -> bytes:
    """Returns `uint8 [H, W, 3]` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(_pixels(frame[None])[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def encode_video(frames: np.ndarray, fps: float, *, lossless: bool = False) -> bytes:
    """Returns `uint8 [T, H, W, 3]` sRGB as the bytes of an H.264 MP4 file, as `VideoWriter` makes it; equal frames give equal bytes."""
    return encode_stream(_pixels(frames), fps, lossless=lossless)


def encode_stream(frames: Iterable[np.ndarray], fps: float, *, lossless: bool = False) -> bytes:
    """Encodes frames `uint8 [H, W, 3]` of one size as they come, at least one, as `encode_video` does."""
    buffer = io.BytesIO()
    with VideoWriter(buffer, fps, lossless=lossless) as writer:
        for frame in frames:
            writer.write(frame)
    return buffer.getvalue()


def write(path: epath.PathLike, frames: np.ndarray, fps: float) -> epath.Path:
    """Writes `uint8 [T, H, W, 3]` as PNG where T = 1, else MP4, whole or not at all; returns the path, suffixed."""
    still = len(frames) == 1
    path = epath.Path(path).with_suffix(".png" if still else ".mp4")
    return write_atomically(path, encode_image(frames[0]) if still else encode_video(frames, fps))


def _resample(timed: Iterator[Shown], start: float, fps: float | None) -> Iterator[av.VideoFrame]:
    """Yields what is on screen at `start + k / fps`, or every frame from `start` on where `fps` is None."""
    shown, index, end = None, 0, 0.0

    def until(limit: float) -> Iterator[av.VideoFrame]:
        nonlocal index
        while shown is not None and start + index / fps < limit - TOLERANCE_S:
            yield shown
            index += 1

    for time, span, frame in timed:
        if fps is None:
            if time + TOLERANCE_S >= start:
                yield frame
        else:
            yield from until(time)
        shown, end = frame, time + span
    if fps is not None:
        yield from until(end)


def _still_info(image: Image.Image) -> MediaInfo:
    width, height = image.size
    if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # 5 to 8 lie on their side
        width, height = height, width
    return MediaInfo(
        kind="image",
        format=stills.FORMATS[image.format],
        codec=image.format.lower(),
        height=height,
        width=width,
        frames=1,
        fps=1.0,
        duration=0.0,
    )


def _video_info(video: Video, first: av.VideoFrame) -> MediaInfo:
    height, width = video.upright_size(first)
    duration, fps = video.duration, float(video.rate)
    name = video.container.format.name.split(",")[0]
    name = {"mov": "mp4", "matroska": "webm" if video.codec in ("vp8", "vp9", "av1") else "mkv"}.get(name, name)
    return MediaInfo(
        kind="video",
        format=name,
        codec=video.codec,
        height=height,
        width=width,
        frames=video.stream.frames or max(1, round(duration * fps)),
        fps=fps,
        duration=duration or 1 / fps,
        hdr=first.color_trc in HDR,
    )


def _true_info(info: MediaInfo, count: int, duration: float, *, trusted: bool) -> MediaInfo:
    """Sound may outlast the picture, so a container's own length proves nothing when there is sound: then it is not `trusted`."""
    if trusted and info.duration - duration > max(0.5, 0.1 * info.duration):
        raise MediaError(f"cut short: {duration:.2f} s of the {info.duration:.2f} s that its header promises")
    fps = count / duration if duration > 0 else info.fps
    # Where the header's rate is right it is the exact one (container rounding makes a counted one 30.12 for 29.97);
    # either way `frames / fps` is the duration.
    fps = info.fps if abs(count / info.fps - duration) < TOLERANCE_S else fps
    return dataclasses.replace(info, frames=count, duration=duration, fps=fps)


def _pixels(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    return np.ascontiguousarray(frames)

"""Media in and out: probing, streaming decode to upright sRGB frames resampled by timestamps, deterministic encoding.

PyAV reads everything that moves, Pillow everything that does not. Pixels are `uint8 [T, H, W, 3]`; sizes are (height,
width) of the upright picture with square pixels, so after rotation and sample aspect ratio.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
from fractions import Fraction
import io
import itertools
from typing import Literal

import av
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter
from etils import epath
import numpy as np
from PIL import ExifTags, Image

from videodit.core.files import write_atomically
from videodit.data import stills
from videodit.data.stills import MediaError, Source

# Containers such as WebM round timestamps to a millisecond, so a frame this much late still counts as on time.
TOLERANCE_S = 1e-3
# A longer silence between two frames is a broken timestamp; filling it with copies could take for ever.
LONGEST_GAP_S = 600.0
# Below this area, starting decoder threads costs more than they save.
_THREADS_FROM_AREA = 256 * 256
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_ALPHA = ("bgra", "rgba", "argb", "abgr", "ya8", "pal8")
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


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
    with _open_video(source) as (container, stream), _reasons():
        first = next(container.decode(stream), None)
        if first is None:
            raise MediaError("the video stream holds no frame")
        height, width = _upright_size(first, stream)
        duration, fps = _duration(container, stream), float(_rate(stream))
        name = container.format.name.split(",")[0]
        name = {"mov": "mp4", "matroska": "webm" if _codec(stream) in ("vp8", "vp9", "av1") else "mkv"}.get(name, name)
        return MediaInfo(
            kind="video",
            format=name,
            codec=_codec(stream),
            height=height,
            width=width,
            frames=stream.frames or max(1, round(duration * fps)),
            fps=fps,
            duration=duration or 1 / fps,
            hdr=first.color_trc in _HDR,
        )


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
    indices. With `fps=None` every frame from `start` on comes as it is. A still has one frame at every time.

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
    with _open_video(source) as (container, stream), _reasons():
        picture = _Picture(stream, size)
        for frame in _resample(_timed(container, stream, start), start, fps):
            yield picture(frame)


def check(source: Source) -> MediaInfo:
    """Decodes every frame of a file and returns its info with true `frames` and `duration`.

    Raises:
      MediaError: where any frame is corrupt or missing.
    """
    info = probe(source)
    if info.kind == "image":
        decode(source)
        return info
    count, first, end = 0, 0.0, 0.0
    with _open_video(source) as (container, stream), _reasons():
        for time, span, _ in _timed(container, stream, 0.0):
            first = time if count == 0 else first
            count, end = count + 1, time + span
        duration = end - first
        # Sound may outlast the picture, so a container's own length proves nothing when there is sound.
        trusted = stream.duration or not container.streams.audio
    if trusted and info.duration - duration > max(0.5, 0.1 * info.duration):
        raise MediaError(f"cut short: {duration:.2f} s of the {info.duration:.2f} s that its header promises")
    fps = count / duration if duration > 0 else info.fps
    # Where the header's rate is right it is the exact one (container rounding makes a counted one 30.12 for 29.97);
    # either way `frames / fps` is the duration.
    fps = info.fps if abs(count / info.fps - duration) < TOLERANCE_S else fps
    return dataclasses.replace(info, frames=count, duration=duration, fps=fps)


def encode_image(frame: np.ndarray) -> bytes:
    """Returns `uint8 [H, W, 3]` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(_pixels(frame[None])[0]).save(buffer, format="PNG")
    return buffer.getvalue()


def encode_video(frames: np.ndarray, fps: float, *, lossless: bool = False) -> bytes:
    """Returns `uint8 [T, H, W, 3]` sRGB as the bytes of an H.264 MP4 file; equal frames give equal bytes.

    Small and odd sizes keep full colour resolution (4:4:4), which halving would smear or cannot express; others are
    4:2:0, which every browser plays. `lossless` keeps every bit of every pixel.
    """
    frames = _pixels(frames)
    _, height, width, _ = frames.shape
    full_colour = lossless or height % 2 or width % 2 or min(height, width) < 128
    rate = Fraction(fps).limit_denominator(1001)
    buffer = io.BytesIO()
    # No threads and no tags that name a time or a library's build: the same frames are the same bytes.
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb24" if lossless else "yuv444p" if full_colour else "yuv420p"
        # x264's macroblock tree reads memory that it has not set, at some sizes: equal frames would give other bytes now and then.
        stream.options = {"preset": "fast"} | ({"qp": "0"} if lossless else {"crf": "16", "mbtree": "0"})
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
        if not lossless:
            context.colorspace, context.color_range = 1, 1  # BT.709, limited range: what players expect
        reformatter = VideoReformatter()
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if not lossless:
                frame = reformatter.reformat(
                    frame,
                    format=stream.pix_fmt,
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=1,
                    interpolation=_SCALING,
                    threads=1,
                )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def write(path: epath.PathLike, frames: np.ndarray, fps: float) -> epath.Path:
    """Writes `uint8 [T, H, W, 3]` as PNG where T = 1, else MP4, whole or not at all; returns the path, suffixed."""
    still = len(frames) == 1
    path = epath.Path(path).with_suffix(".png" if still else ".mp4")
    return write_atomically(path, encode_image(frames[0]) if still else encode_video(frames, fps))


_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


class _Picture:
    """Turns decoded frames of one stream into upright `uint8 [H, W, 3]` sRGB of a wanted size."""

    def __init__(self, stream: av.VideoStream, size: tuple[int, int] | None):
        self._stream, self._size = stream, size
        self._scale, self._tone = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        height, width = native = _upright_size(frame, self._stream)
        if self._size:
            height, width = stills.cover(native, self._size)
        if frame.rotation % 180:
            height, width = width, height
        pixels = self._rgb(frame, height, width)
        pixels = stills.on_white(pixels) if pixels.shape[-1] == 4 else pixels
        pixels = np.rot90(pixels, round(frame.rotation / 90))
        return np.ascontiguousarray(stills.centre(pixels, self._size) if self._size else pixels)

    def _rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        options = {"height": height, "width": width, "interpolation": _SCALING, "threads": 1}
        if frame.colorspace == _UNSPECIFIED:
            # Files that do not say mean BT.601 below HD and BT.709 from HD on, as players have it.
            hd = min(frame.width, frame.height) >= 720
            options["src_colorspace"] = Colorspace.ITU709 if hd else Colorspace.ITU601
        if frame.color_trc in _HDR:
            # Tone mapping costs a tenth of a second a frame in full HD, so it comes after scaling down.
            frame = self._scale.reformat(frame, format="yuv444p10le", **options)
            tones = {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
            return self._tone.reformat(frame, format="rgb24", **options, **tones).to_ndarray()
        alpha = frame.format.name in _ALPHA or frame.format.name.startswith("yuva")
        return self._scale.reformat(frame, format="rgba" if alpha else "rgb24", **options).to_ndarray()


def _resample(timed: Iterator[tuple[float, float, av.VideoFrame]], start: float, fps: float | None) -> Iterator[av.VideoFrame]:
    """Yields what is on screen at `start + k / fps`, or every frame from `start` on where `fps` is None."""
    shown, index, end = None, 0, 0.0

    def until(limit: float) -> Iterator[av.VideoFrame]:
        nonlocal index
        while shown is not None and start + index / fps < limit - TOLERANCE_S:
            yield shown
            index += 1

    for time, span, frame in timed:
        if time - end > LONGEST_GAP_S:
            raise MediaError(f"timestamps jump by {time - end:.0f} s at {end:.3f} s")
        if fps is None:
            if time + TOLERANCE_S >= start:
                yield frame
        else:
            yield from until(time)
        shown, end = frame, time + span
    if fps is not None:
        yield from until(end)


def _timed(container, stream: av.VideoStream, start: float) -> Iterator[tuple[float, float, av.VideoFrame]]:
    """Yields (seconds after the first frame, seconds on screen, frame), from the last keyframe before `start` on."""
    span = 1 / float(_rate(stream))
    known = stream.start_time is not None
    origin = float(stream.start_time * stream.time_base) if known else None
    # Only containers with an index land on a keyframe at or before the time asked for.
    if known and start > 1.0 and container.format.name.split(",")[0] in ("mov", "matroska", "avi"):
        container.seek(int((origin + start) / stream.time_base), stream=stream, backward=True)
    time = None
    for number, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise MediaError(f"frame {number} is corrupt")
        stamp = frame.time if frame.pts is not None else None
        if origin is None:
            origin = stamp or 0.0
        previous, time = time, stamp - origin if stamp is not None else (0.0 if time is None else time + span)
        if previous is not None and time < previous:
            time = previous  # out of order: it replaces the one before, and time never runs back
        own = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else span
        yield time, own, frame


def _pixels(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    return np.ascontiguousarray(frames)


def _codec(stream: av.VideoStream) -> str:
    return stream.codec_context.codec.canonical_name


def _rate(stream: av.VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0.01 < rate < 1000:
            return rate
    return Fraction(25)


def _duration(container, stream: av.VideoStream) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # WebM counts its length from zero and not from the first frame.
    first = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
    whole = container.duration / av.time_base if container.duration else 0.0
    return max(0.0, whole - first if container.format.name.startswith("matroska") else whole)


def _upright_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    height, width = frame.height, frame.width
    ratio = stream.sample_aspect_ratio
    # Stretch, never shrink, to square pixels: no line that was stored is lost.
    if ratio and 0.1 < ratio < 10:
        height, width = (height, round(width * ratio)) if ratio >= 1 else (round(height / ratio), width)
    return (width, height) if frame.rotation % 180 else (height, width)


@contextlib.contextmanager
def _reasons():
    try:
        yield
    except (av.error.FFmpegError, EOFError) as error:
        raise MediaError(f"broken data: {getattr(error, 'strerror', None) or type(error).__name__}") from error


@contextlib.contextmanager
def _open_video(source: Source):
    """Gives (container, first video stream)."""
    _refuse_text(source)
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(stack.enter_context(stills.open_source(source))))
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("not a media file, or cut off before its index") from error
        if not container.streams.video:
            raise MediaError("no video stream" + (", only sound" if container.streams.audio else ""))
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if stream.width * stream.height <= _THREADS_FROM_AREA:
            stream.codec_context.thread_count = 1
        yield container, stream


def _refuse_text(source: Source) -> None:
    """FFmpeg opens some texts as media (playlists that name other files, drawings in letters): none is a clip."""
    with stills.open_source(source) as file:
        head = file.read(1024)
    if not head:
        raise MediaError("empty file")
    text = all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head)
    if text and head.lstrip()[:1] == b"<":
        raise MediaError("a web page or XML, not media")
    if text:
        raise MediaError("text, not media")

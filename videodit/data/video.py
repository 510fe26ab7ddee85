"""A video file as frames with times: opening, seeking to the keyframe, deinterlacing; damage is an error and never a picture.

Times are seconds after the first frame of the first video stream, whatever the container counts from.
"""

from collections import deque
from collections.abc import Iterator
import contextlib
from fractions import Fraction
import itertools
import types
from typing import NamedTuple

import av

from videodit.data import animations, stills
from videodit.data.stills import MediaError, Source

# Containers such as WebM round timestamps to a millisecond, so a frame this much late still counts as on time.
TOLERANCE_S = 1e-3
# A longer silence between two frames is a broken timestamp; filling it with copies could take for ever.
LONGEST_GAP_S = 600.0
# Twice the pixels of 8K video; a header that asks for more is broken or an attack on memory.
_MOST_PIXELS = 2 * 7680 * 4320
# Below this area, starting decoder threads costs more than they save.
_THREADS_FROM_AREA = 256 * 256
# A seek costs a keyframe or two, so what begins earlier is decoded up to.
_SEEK_FROM_S = 1.0
# How far before the wanted time to look for a keyframe where the container has no index that says.
_SEEK_BACK_S = (0.0, 2.0, 10.0)
# Tags that are not UTF-8 are no damage. From PyAV 19 on that is how it opens files anyway.
_ANY_METADATA = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
# The deinterlacer looks at the field before and after.
_DEINTERLACE_FRAMES = 2


class Shown(NamedTuple):
    """A decoded frame, when it comes on screen (seconds after the first frame) and for how long (seconds)."""

    time: float
    span: float
    frame: av.VideoFrame


class Video:
    """The first video stream of an open file; `strict` as in `open_video`."""

    def __init__(self, source: Source, container: av.container.InputContainer, stream: av.VideoStream, strict: bool):
        self.source, self.container, self.stream, self._strict = source, container, stream, strict

    @property
    def rate(self) -> Fraction:
        """Frames a second as the header has it, or a guess."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate and 0.01 < rate < 1000:
                return rate
        return Fraction(25)

    @property
    def duration(self) -> float:
        """Seconds as the header has it; 0 where it does not say."""
        if self.stream.duration:
            return float(self.stream.duration * self.stream.time_base)
        # WebM counts its length from zero and not from the first frame.
        first = float(self.stream.start_time * self.stream.time_base) if self.stream.start_time else 0.0
        whole = self.container.duration / av.time_base if self.container.duration else 0.0
        return max(0.0, whole - first if self.container.format.name.startswith("matroska") else whole)

    @property
    def codec(self) -> str:
        """The codec's name without the decoder's, e.g. av1."""
        return self.stream.codec_context.codec.canonical_name

    def upright_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Returns (height, width) of a frame turned upright, with square pixels."""
        height, width = frame.height, frame.width
        ratio = self.stream.sample_aspect_ratio
        # Stretch, never shrink, to square pixels: no line that was stored is lost.
        if ratio and 0.1 < ratio < 10:
            height, width = (height, round(width * ratio)) if ratio >= 1 else (round(height / ratio), width)
        return (width, height) if frame.rotation % 180 else (height, width)

    def frames(self, start: float = 0.0) -> Iterator[Shown]:
        """Yields frames in the order of time; the first is the one on screen at `start`, or an earlier one.

        Where `start` lies far in, decoding begins at a keyframe before it; where none is found there, at the first frame. Interlaced
        frames come out whole, one for each that was stored, at its time.

        Raises:
          MediaError: where a frame is corrupt, or timestamps jump by more than LONGEST_GAP_S.
        """
        return _deinterlaced(self._progress(start))

    def _progress(self, start: float) -> Iterator[Shown]:
        decoded = self._decoded()
        first = next(decoded, None)
        if first is None:
            return
        # The first frame's own stamp, and not the header's start: where they differ, times would not begin at 0.
        origin = _stamp(first) or 0.0
        if first.interlaced_frame:
            start -= _DEINTERLACE_FRAMES / float(self.rate)
        if start <= _SEEK_FROM_S or _stamp(first) is None:
            yield from self._timed(itertools.chain([first], decoded), origin)
            return
        found = self._from_keyframe(origin, start)
        if found is not None:
            yield from self._timed(found, origin)
            return
        with open_video(self.source) as again:
            yield from again._timed(again._decoded(), origin)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        number = 0
        for packet in self.container.demux(self.stream):
            # A strict decoder may drop the frame of a damaged packet without a word.
            if self._strict and packet.is_corrupt:
                raise MediaError("damaged or cut off")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise MediaError(f"frame {number} is corrupt")
                yield frame
                number += 1

    def _from_keyframe(self, origin: float, start: float) -> Iterator[av.VideoFrame] | None:
        """Seeks; returns frames from the last one at or before `start` on, or None where no keyframe before it is found."""
        for back in _SEEK_BACK_S:
            if start - back <= _SEEK_FROM_S:
                return None
            with contextlib.suppress(av.error.FFmpegError, MediaError):
                self.container.seek(int((origin + start - back) / self.stream.time_base), stream=self.stream, backward=True)
                decoded = self._decoded()
                # What comes before a keyframe may refer to frames that were jumped over.
                frame = next((each for each in decoded if each.key_frame), None)
                if frame is None or _stamp(frame) is None or _stamp(frame) - origin > start + TOLERANCE_S:
                    continue
                for following in decoded:
                    stamp = _stamp(following)
                    if stamp is None or stamp - origin > start:
                        return itertools.chain([frame, following], decoded)
                    frame = following
                return iter([frame])
        return None

    def _timed(self, frames: Iterator[av.VideoFrame], origin: float) -> Iterator[Shown]:
        usual = 1 / float(self.rate)
        time = end = None
        for frame in frames:
            stamp = _stamp(frame)
            previous, time = time, stamp - origin if stamp is not None else (0.0 if time is None else time + usual)
            if previous is not None and time < previous:
                time = previous  # out of order: it replaces the one before, and time never runs back
            if end is not None and time - end > LONGEST_GAP_S:
                raise MediaError(f"timestamps jump by {time - end:.0f} s at {end:.3f} s")
            own = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            end = time + own
            yield Shown(time, own, frame)


@contextlib.contextmanager
def open_video(source: Source, *, strict: bool = False) -> Iterator[Video]:
    """Opens a file for decoding. `strict` refuses damage that decoders would else pass over in silence, and takes one thread: how far a
    broken file is read, and so what is said of it, would else depend on their number. Files are examined side by side.

    Raises:
      MediaError: where the file is not media, has no video stream, or (while it is open) holds broken data.
    """
    source = animations.as_video(source)
    _refuse_text(source)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(stills.open_source(source))
            # Without a name, so that what is read does not depend on the extension: a record has none.
            nameless = types.SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
            container = stack.enter_context(av.open(nameless, **_ANY_METADATA))
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError("not a media file, or cut off before its index") from error
        if not container.streams.video:
            raise MediaError("no video stream" + (", only sound" if container.streams.audio else ""))
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise MediaError("the codec is unknown")
        stream.thread_type = "AUTO"
        if strict or stream.width * stream.height <= _THREADS_FROM_AREA:
            stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)} | ({"err_detect": "crccheck+explode"} if strict else {})
        with _reasons():
            yield Video(source, container, stream, strict)


def _deinterlaced(frames: Iterator[Shown]) -> Iterator[Shown]:
    """Fills in the lines of each interlaced frame's other field, by motion (FFmpeg's bwdif); progressive frames stay as they are."""
    graph, waiting, layout = None, deque(), None
    for shown in frames:
        frame = shown.frame
        if graph is None and not frame.interlaced_frame:
            yield shown
            continue
        if layout != (frame.width, frame.height, frame.format.name):
            yield from _drain(graph, waiting)
            graph, layout = _bwdif(frame), (frame.width, frame.height, frame.format.name)
        waiting.append(shown)
        graph.push(frame)
        pulled = _pull(graph)
        if pulled is not None:
            yield waiting.popleft()._replace(frame=pulled)
    yield from _drain(graph, waiting)


def _drain(graph: av.filter.Graph | None, waiting: deque[Shown]) -> Iterator[Shown]:
    if graph is not None:
        graph.push(None)
        while waiting:
            yield waiting.popleft()._replace(frame=_pull(graph))


def _pull(graph: av.filter.Graph) -> av.VideoFrame | None:
    """Returns the next frame, or None where the filter has to see the one after it first."""
    with contextlib.suppress(av.error.BlockingIOError):
        return graph.pull()
    return None


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    nodes = (
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _stamp(frame: av.VideoFrame) -> float | None:
    return frame.time if frame.pts is not None else None


@contextlib.contextmanager
def _reasons():
    try:
        yield
    except (av.error.FFmpegError, EOFError) as error:
        raise MediaError(f"broken data: {getattr(error, 'strerror', None) or type(error).__name__}") from error


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

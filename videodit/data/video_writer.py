"""Frames to H.264 in MP4 as they come, deterministic: equal frames give equal bytes."""

import contextlib
from fractions import Fraction
from typing import Any

import av
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter
import numpy as np

from videodit.data.pixels import SCALING

# No tags that name a time or a library's build.
_OPTIONS = {"fflags": "+bitexact"}
# A file that can be played while it grows: a header that promises nothing, then fragments of about a second, each written at once.
_GROWING = {"fflags": "+bitexact+flush_packets", "movflags": "empty_moov+default_base_moof", "frag_duration": "1000000"}


class VideoWriter(contextlib.AbstractContextManager):
    """Encodes frames `uint8 [H, W, 3]` sRGB of one size to a file, local by its name or one that is open for writing.

    Small and odd sizes keep full colour resolution (4:4:4), which halving would smear or cannot express; others are 4:2:0, which every
    browser plays. `lossless` keeps every bit of every pixel. `growing`: the file can be played before it is closed, about a second behind
    the encoder; `finish` makes a usual one of it.
    """

    def __init__(self, file: Any, fps: float, *, lossless: bool = False, growing: bool = False):
        self._fps, self._lossless, self._stream = Fraction(fps).limit_denominator(1001), lossless, None
        self._container = av.open(file, "w", format="mp4", options=_OPTIONS | (_GROWING if growing else {}))
        self._reformatter, self._closed = VideoReformatter(), False

    def _begin(self, height: int, width: int) -> None:
        full_colour = self._lossless or height % 2 or width % 2 or min(height, width) < 128
        self._stream = self._container.add_stream("libx264rgb" if self._lossless else "libx264", rate=self._fps)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "rgb24" if self._lossless else "yuv444p" if full_colour else "yuv420p"
        # x264's macroblock tree reads memory that it has not set, at some sizes: equal frames would give other bytes now and then.
        self._stream.options = {"preset": "fast"} | ({"qp": "0"} if self._lossless else {"crf": "16", "mbtree": "0"})
        context = self._stream.codec_context
        context.thread_count = 1  # more would make other bytes
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.IEC61966_2_1
        if not self._lossless:
            context.colorspace, context.color_range = 1, 1  # BT.709, limited range: what players expect

    def write(self, pixels: np.ndarray) -> None:
        """The next frame."""
        if self._stream is None:
            self._begin(*pixels.shape[:2])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if not self._lossless:
            frame = self._reformatter.reformat(
                frame,
                format=self._stream.pix_fmt,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=1,
                interpolation=SCALING,
                threads=1,
            )
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Ends the file. Raises ValueError where it has no frame."""
        if self._closed:
            return
        if self._stream is None:
            raise ValueError("a video of no frames was written, expected 1 or more")
        self._container.mux(self._stream.encode())
        self._abandon()

    def _abandon(self) -> None:
        self._closed = True
        self._container.close()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:  # what the encoder holds back is lost with the rest
            self._abandon()


def finish(growing: str, finished: str) -> None:
    """Makes of a closed file that was written to grow a usual one: the same packets, shown from time 0 on."""
    with av.open(growing) as source, av.open(finished, "w", format="mp4", options=_OPTIONS) as target:
        (stream,) = source.streams.video
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None:  # the last one, which is empty: it flushes decoders
                continue
            # A growing file begins late, by as much as frames are decoded ahead of being shown.
            packet.pts, packet.dts = packet.pts - stream.start_time, packet.dts - stream.start_time
            packet.stream = copied
            target.mux(packet)

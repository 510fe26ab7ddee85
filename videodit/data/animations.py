"""Animated WebP, which FFmpeg does not decode: read by Pillow, handed on as lossless video."""

from fractions import Fraction
import io

import av
import numpy as np
from PIL import Image

from videodit.data import stills
from videodit.data.stills import MediaError, Source

_ANIMATED = 0x02  # in the flags of the extended header (WebP Container Specification, "Extended File Format")


def as_video(source: Source) -> Source:
    """Returns the bytes of a Matroska file with an animated WebP's frames at their times and with its alpha; any other source as it is.

    Raises:
      MediaError: where the animation is broken.
    """
    with stills.open_source(source) as file:
        head = file.read(21)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or len(head) < 21 or not head[20] & _ANIMATED:
        return source
    try:
        with stills.open_source(source) as file, Image.open(file) as animation:
            return _lossless(animation)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"broken animation: {error}") from error


def _lossless(animation: Image.Image) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=1000)
        stream.width, stream.height, stream.pix_fmt = *animation.size, "bgra"
        stream.codec_context.time_base = Fraction(1, 1000)
        time = 0
        for place in range(animation.n_frames):
            animation.seek(place)
            frame = av.VideoFrame.from_ndarray(np.asarray(animation.convert("RGBA")), format="rgba").reformat(format="bgra")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            span = animation.info.get("duration", 0) or 100  # ms; browsers show 0 as 100
            time += span
            for packet in stream.encode(frame):  # FFV1 gives each frame's packet at once, without its duration
                packet.duration = span
                container.mux(packet)
    return buffer.getvalue()

"""Decoded frames of a video as upright sRGB pixels."""

import av
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter
import numpy as np

from videodit.data import stills
from videodit.data.video import Video

SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


class Pixels:
    """Turns decoded frames of one video into `uint8 [H, W, 3]` sRGB: upright, with square pixels, HDR tone-mapped, alpha on white.

    All come out in one size: `size` (height, width), covered and cut evenly, or else that of the first frame. So a stream that changes
    its size on the way is scaled to how it began.
    """

    def __init__(self, video: Video, size: tuple[int, int] | None = None):
        self._video, self._size = video, size
        self._native: tuple[int, int] | None = None
        self._scale, self._tone = VideoReformatter(), VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        self._native = self._native or self._video.upright_size(frame)
        height, width = stills.cover(self._native, self._size) if self._size else self._native
        if frame.rotation % 180:
            height, width = width, height
        pixels = self._rgb(frame, height, width)
        pixels = stills.on_white(pixels) if pixels.shape[-1] == 4 else pixels
        pixels = np.rot90(pixels, round(frame.rotation / 90))
        return np.ascontiguousarray(stills.centre(pixels, self._size) if self._size else pixels)

    def _rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        options = {"height": height, "width": width, "interpolation": SCALING, "threads": 1}
        if frame.colorspace == _UNSPECIFIED:
            # Files that do not say mean BT.601 below HD and BT.709 from HD on, as players have it.
            hd = min(frame.width, frame.height) >= 720
            options["src_colorspace"] = Colorspace.ITU709 if hd else Colorspace.ITU601
        if frame.color_trc in HDR:
            # Tone mapping costs a tenth of a second a frame in full HD, so it comes after scaling down.
            frame = self._scale.reformat(frame, format="yuv444p10le", **options)
            tones = {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
            return self._tone.reformat(frame, format="rgb24", **options, **tones).to_ndarray()
        alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        return self._scale.reformat(frame, format="rgba" if alpha else "rgb24", **options).to_ndarray()

"""Still pictures: opening them, and turning any mode, orientation and profile into sRGB pixels.

Also what stills and video share: sources, the error, and scaling to cover a size.
"""

import contextlib
import io
import os

from etils import epath
import numpy as np
from PIL import Image, ImageCms, ImageOps

Source = str | os.PathLike | bytes

FORMATS = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff", "PPM": "ppm"}


class MediaError(Exception):
    """A file that cannot be used; the message is the reason, short enough for a line of a table."""


def open_source(source: Source):
    return io.BytesIO(source) if isinstance(source, bytes) else epath.Path(source).open("rb")


def cover(native: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    scale = max(size[0] / native[0], size[1] / native[1])
    return max(size[0], round(native[0] * scale)), max(size[1], round(native[1] * scale))


def centre(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = (pixels.shape[0] - size[0]) // 2, (pixels.shape[1] - size[1]) // 2
    return pixels[top : top + size[0], left : left + size[1]]


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Lays `uint8 [H, W, 4]` on white, as a page would show it; what transparent pixels hide is not to be seen."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def open_still(source: Source) -> Image.Image | None:
    """Returns the still picture in a file, or None where it holds something else.

    A picture that moves (GIF, animated PNG, WebP or AVIF) is a video of its own frames and times. Of the several pictures of one MPO
    or TIFF file, which are views or pages and no times, the first is the still.
    """
    file = open_source(source)
    try:
        image = Image.open(file)
    except Exception as error:  # Pillow raises many kinds for what is not a picture
        file.close()
        if isinstance(error, Image.DecompressionBombError):
            raise MediaError(f"picture too large: {error}") from error
        return None
    try:
        # The pictures of an MPO are one view each, not one time each.
        still = image.format in FORMATS and (getattr(image, "n_frames", 1) == 1 or image.format in ("MPO", "TIFF"))
    except Exception as error:  # it counts the pictures of a broken file
        file.close()
        raise MediaError(f"broken picture: {error}") from error
    if not still:
        file.close()
        return None
    return image


def still_pixels(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode.startswith("I"):  # 16 bit: 65535 is white
            image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
        elif image.mode == "F":  # by convention 1.0 is white
            image = Image.fromarray((np.nan_to_num(np.asarray(image, np.float64)) * 255).round().clip(0, 255).astype(np.uint8))
        transparent = image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info
        image = _to_srgb(image, profile, "RGBA" if transparent else "RGB")
        pixels = np.asarray(image)
        image = Image.fromarray(on_white(pixels) if transparent else pixels)
        if size:
            height, width = cover((image.height, image.width), size)
            image = image.resize((width, height), Image.Resampling.BICUBIC)
            return np.ascontiguousarray(centre(np.asarray(image), size))
        return np.array(image)
    except Exception as error:
        raise MediaError(f"broken picture: {error}") from error


def _to_srgb(image: Image.Image, profile: bytes | None, mode: str) -> Image.Image:
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    return image.convert(mode)

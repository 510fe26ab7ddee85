"""Contact sheets, clips as strips of frames, one under another; clips that loop; and text beside them."""

from collections.abc import Sequence
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videodit.data.media import encode_image

GAP = 2  # pixels between pictures
PAPER = 255


def strip(frames: np.ndarray, count: int) -> np.ndarray:
    """`count` frames of a clip, evenly spaced from first to last, side by side: uint8 `[H, ..., 3]`. A still comes once."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return beside([frames[i] for i in chosen])


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of any sizes side by side, their tops aligned."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] + GAP for picture in pictures) - GAP
    sheet, left = np.full((height, width, 3), PAPER, np.uint8), 0
    for picture in pictures:
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return sheet


def above(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of any sizes one above another, their left sides aligned."""
    return beside([picture.transpose(1, 0, 2) for picture in pictures]).transpose(1, 0, 2)


def enlarge(picture: np.ndarray, times: int) -> np.ndarray:
    """Each pixel `times` x `times`."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def contact_sheet(clips: Sequence[np.ndarray], columns: int = 2, frames: int = 5, times: int = 2) -> bytes:
    """A PNG of clips in `columns` columns, each a strip of `frames` frames, enlarged."""
    strips = [strip(clip, frames) for clip in clips]
    per_column = -(-len(strips) // columns)
    return encode_image(enlarge(beside([above(strips[i : i + per_column]) for i in range(0, len(strips), per_column)]), times))


def looping(clip: np.ndarray, fps: float) -> bytes:
    """A clip uint8 `[T, H, W, 3]` as a lossless WebP that plays again and again; every browser shows it as a picture. Equal neighbours may
    become one frame that is shown for as long as both."""
    frames, buffer = [Image.fromarray(each) for each in clip], io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, lossless=True, method=2)
    return buffer.getvalue()


def writing(lines: Sequence[str], width: int, size: int = 17) -> np.ndarray:
    """Lines of text in black on white, those that are too long broken: uint8 `[H, width, 3]`."""
    font = ImageFont.load_default(size)
    broken = [part for line in lines for part in _broken(line, width, font)]
    step = round(1.35 * size)
    picture = Image.new("RGB", (width, max(1, step * len(broken))), (PAPER,) * 3)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(broken):
        draw.text((0, number * step), line, font=font, fill=(0, 0, 0))
    return np.asarray(picture)


def _broken(line: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    parts = [""]
    for word in line.split():
        longer = f"{parts[-1]} {word}".strip()
        if parts[-1] and font.getlength(longer) > width:
            parts.append(word)
        else:
            parts[-1] = longer
    return parts

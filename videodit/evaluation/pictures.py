"""Contact sheets: clips as strips of frames, one under another."""

from collections.abc import Sequence

import numpy as np

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

"""What a size policy does to a data set, size by size: the figures of `videodit inspect --config`, and their picture."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from videodit.data.media import encode_image
from videodit.data.sizes import SizePolicy, fit, resampled_frames, tokens, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeRow:
    """What happens to the clips of one native size and kind.

    Attributes:
      native: (height, width), upright pixels.
      used: (frames, height, width) of their longest window.
      still: whether they are stills.
      clips: how many clips there are; windows: into how many they are cut.
      tokens: latent tokens of the longest window.
      pixels_kept: pixels of a used frame as a share of a native one's.
      frames_kept: frames that lie in a window, as a share of those at the policy's rate.
      picture_kept: share of the picture that is seen: scaled to cover the used size, what sticks out is cut off evenly.
    """

    native: tuple[int, int]
    used: tuple[int, int, int]
    still: bool
    clips: int
    windows: int
    tokens: int
    pixels_kept: float
    frames_kept: float
    picture_kept: float


def size_rows(sizes: np.ndarray, fps: np.ndarray, policy: SizePolicy) -> list[SizeRow]:
    """A row for each native size, stills and videos apart, the commonest first. `sizes` is int `[n, 3]` (frames, height, width)."""
    groups: dict[tuple[int, int, bool], list[tuple[int, float]]] = {}
    for (frames, height, width), rate in zip(np.asarray(sizes).tolist(), np.asarray(fps).tolist()):
        groups.setdefault((height, width, frames == 1), []).append((frames, rate))
    rows = [_row((height, width), still, clips, policy) for (height, width, still), clips in groups.items()]
    return sorted(rows, key=lambda row: (-row.clips, row.native, row.still))


def _row(native: tuple[int, int], still: bool, clips: Sequence[tuple[int, float]], policy: SizePolicy) -> SizeRow:
    height, width = native
    used, cut, kept, there = [], 0, 0, 0
    for frames, rate in clips:
        size = fit(frames, height, width, rate, policy)
        found = windows(frames, rate, policy, max_frames=size.frames)
        used.append((tokens(size, policy.grid), tuple(size)))
        cut += len(found)
        kept += round(found[-1][0] * policy.fps) + found[-1][1]  # windows leave out nothing before the last one's end
        there += resampled_frames(frames, rate, policy)
    most, longest = max(used)
    wider = (longest[2] / longest[1]) / (width / height)
    return SizeRow(
        native=native,
        used=longest,
        still=still,
        clips=len(clips),
        windows=cut,
        tokens=most,
        pixels_kept=longest[1] * longest[2] / (height * width),
        frames_kept=kept / there,
        picture_kept=min(wider, 1 / wider),
    )


def to_json(rows: Sequence[SizeRow]) -> list[dict[str, Any]]:
    """The rows as JSON values."""
    return [dataclasses.asdict(row) for row in rows]


_COLUMNS = ("native", "kind", "clips", "used", "frames", "tokens", "pixels", "picture", "frames kept", "windows")


def to_lines(rows: Sequence[SizeRow]) -> list[str]:
    """The rows as a table for a person, a line each; sizes are WIDTHxHEIGHT."""
    cells = [_COLUMNS] + [
        (
            f"{row.native[1]}x{row.native[0]}",
            "still" if row.still else "video",
            f"{row.clips:,}",
            f"{row.used[2]}x{row.used[1]}",
            str(row.used[0]),
            f"{row.tokens:,}",
            f"{row.pixels_kept:.0%}" if row.pixels_kept >= 0.095 else f"{row.pixels_kept:.2g}",
            f"{row.picture_kept:.1%}",
            f"{row.frames_kept:.1%}",
            f"{row.windows:,}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in cells]


_CELL, _MARGIN, _TEXT, _MOST = 168, 12, 26, 40  # pixels of the picture, and how many sizes it shows


def picture(rows: Sequence[SizeRow], columns: int = 5) -> bytes:
    """A PNG: each native size as an outline with the used size filled in it to scale, the commonest first, their figures below."""
    shown = list(rows[:_MOST])
    columns = max(1, min(columns, len(shown)))
    longest = max(max(row.native) for row in shown)
    sheet = Image.new("RGB", (columns * _CELL, -(-len(shown) // columns) * (_CELL + _TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(shown):
        left, top = number % columns * _CELL + _MARGIN, number // columns * (_CELL + _TEXT) + _MARGIN
        # The square root, so that a size of a tenth of the largest is still seen.
        scale = (_CELL - 2 * _MARGIN) / np.sqrt(longest) / np.sqrt(max(row.native))
        native = [round(side * scale) for side in row.native]
        used = [round(side * scale) for side in row.used[1:]]
        draw.rectangle((left, top, left + used[1], top + used[0]), fill="#9ecae1")
        draw.rectangle((left, top, left + native[1], top + native[0]), outline="#333333")
        text = f"{row.native[1]}x{row.native[0]} > {row.used[2]}x{row.used[1]}"
        draw.text((left, top + _CELL - 2 * _MARGIN + 2), text, fill="black")
        what = "still" if row.still else f"{row.used[0]} frames"
        draw.text((left, top + _CELL - 2 * _MARGIN + 14), f"{row.clips:,} x {what}, {row.tokens:,} tokens", fill="black")
    return encode_image(np.asarray(sheet))

"""Letterbox bars: black strips along opposite edges that hold through a whole shot."""

from typing import NamedTuple

import numpy as np

# Luma (0 black to 255 white) up to which a bar may ring and be noisy.
_BLACK = 24
# Share of a line's pixels that may stand out of a bar, such as a logo's edge or a broken block.
_SPECKS = 0.01
# A picture begins at a bar's edge along this share of the line at least, within so many pixels. A dark sky has no such edge.
_EDGE_SHARE = 0.5
_EDGE_PIXELS = 3
# Share of a shot's frames that must show the edge: in the others it may be dark.
_EDGE_FRAMES = 0.1
# Opposite bars are about equally thick, or they are not bars.
_UNEVEN_PIXELS = 4
_UNEVEN_SHARE = 0.1
_THINNEST_SHARE = 0.01
_LEAST_PICTURE_SHARE = 0.25


class Bars(NamedTuple):
    """Thickness in pixels of the black strip at each side of one frame, and whether a picture clearly begins there.

    A frame that is black all over has strips of its whole size: it speaks for no bar and against none.
    """

    top: int
    bottom: int
    left: int
    right: int
    edge_top: bool = False
    edge_bottom: bool = False
    edge_left: bool = False
    edge_right: bool = False

    def turned(self, quarters: int) -> "Bars":
        """Returns the bars of the frame turned counter-clockwise by so many quarters."""
        bars = self
        for _ in range(quarters % 4):
            bars = Bars(bars.right, bars.left, bars.top, bars.bottom, bars.edge_right, bars.edge_left, bars.edge_top, bars.edge_bottom)
        return bars


NONE = Bars(0, 0, 0, 0)


def may_have_bars(luma: np.ndarray) -> bool:
    """Returns whether any edge of a small frame `uint8 [H, W]` is black, so that a closer look is worth it."""
    edges = (luma[0], luma[-1], luma[:, 0], luma[:, -1])
    return any(np.count_nonzero(edge > _BLACK) <= 0.1 * len(edge) for edge in edges)


def find_bars(luma: np.ndarray) -> Bars:
    """Returns the bars of one frame, `uint8 [H, W]` luma of full range."""
    height, width = luma.shape
    bright = luma > _BLACK
    rows = np.flatnonzero(bright.mean(1) > _SPECKS)
    if not len(rows):
        return Bars(height, height, width, width)
    top, bottom = int(rows[0]), height - 1 - int(rows[-1])
    inner = bright[top : height - bottom]
    columns = np.flatnonzero(inner.mean(0) > _SPECKS)
    if not len(columns):
        return Bars(height, height, width, width)
    left, right = int(columns[0]), width - 1 - int(columns[-1])
    inner = inner[:, left : width - right]
    edges = (inner[:_EDGE_PIXELS], inner[-_EDGE_PIXELS:], inner[:, :_EDGE_PIXELS].T, inner[:, -_EDGE_PIXELS:].T)
    return Bars(top, bottom, left, right, *(bool(edge.mean(1).max() >= _EDGE_SHARE) for edge in edges))


def crop_box(bars: np.ndarray, edges: np.ndarray, stored: tuple[int, int], upright: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Returns the box (top, left, height, width) that leaves out the bars of a shot, or None where it has none.

    Args:
      bars: `int [T, 4]`, thickness at top, bottom, left, right of every frame, in pixels of `stored`.
      edges: `bool [T, 4]`, where a picture clearly begins.
      stored: (height, width) of the frames that were looked at, turned upright.
      upright: (height, width) of the same with square pixels, which the box is in.
    """
    seen = bars[:, 0] < stored[0]  # the frames that are not black all over
    if not seen.any():
        return None
    bars, edges = bars[seen], edges[seen]
    always = bars.min(0)
    shown = (edges & (bars <= always + _EDGE_PIXELS - 1)).mean(0) >= _EDGE_FRAMES
    thick = [0, 0, 0, 0]
    for one, other, length in ((0, 1, stored[0]), (2, 3, stored[1])):
        a, b = int(always[one]), int(always[other])
        even = abs(a - b) <= max(_UNEVEN_PIXELS, _UNEVEN_SHARE * max(a, b))
        if even and min(a, b) >= max(2, _THINNEST_SHARE * length) and shown[one] and shown[other]:
            if length - a - b >= _LEAST_PICTURE_SHARE * length:
                thick[one], thick[other] = a, b
    if not any(thick):
        return None
    return _box(thick, stored, upright)


def _box(thick: list[int], stored: tuple[int, int], upright: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rounds bars up, so that none of a bar stays, and the picture down to an even size, which every codec takes as it is."""
    down, across = upright[0] / stored[0], upright[1] / stored[1]
    top, bottom = (int(np.ceil(each * down)) for each in thick[:2])
    left, right = (int(np.ceil(each * across)) for each in thick[2:])
    height, width = upright[0] - top - bottom, upright[1] - left - right
    return top, left, height - height % 2 if top else height, width - width % 2 if left else width

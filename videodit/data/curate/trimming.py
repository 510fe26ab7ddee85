"""Ends of a shot that show nothing: black, or standing still."""

import numpy as np

# Luma (0 to 255) above which a pixel is not black, and the share of a frame that may be: stars and a logo's edge, but no night scene.
BLACK_LUMA = 20
_LIT_SHARE = 0.002
# Luma steps by which a pixel must change, and the share of a frame that must, to be more than a codec's noise.
CHANGE_LUMA = 3
_CHANGED_SHARE = 0.0005


def trim(lit: np.ndarray, changed: np.ndarray, times: np.ndarray, still_end_s: float) -> tuple[int, int]:
    """Returns (start, stop) of what is left of a shot of T frames without its black and its still ends; (0, 0) where all is black.

    Of an end that stands still, the frame next to the motion stays. A shot that stands still all through stays whole but for its black.

    Args:
      lit: `[T]`, share of each frame's pixels that are brighter than BLACK_LUMA.
      changed: `[T]`, share that differ by more than CHANGE_LUMA from the frame before; the first is not used.
      times: `[T]`, seconds at which each comes on screen.
      still_end_s: seconds that an end must stand still to be trimmed.
    """
    seen = np.flatnonzero(lit > _LIT_SHARE)
    if not len(seen):
        return 0, 0
    start, stop = int(seen[0]), int(seen[-1]) + 1
    moved = start + 1 + np.flatnonzero(changed[start + 1 : stop] > _CHANGED_SHARE)  # frames that differ from the one before
    if not len(moved):
        return start, stop
    first, last = int(moved[0]) - 1, int(moved[-1])
    if times[first] - times[start] >= still_end_s:
        start = first
    if times[stop - 1] - times[last] >= still_end_s:
        stop = last + 1
    return start, stop

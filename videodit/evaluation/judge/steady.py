"""What is wrong with a clip whatever it should show: pieces that belong to no solid, and solids that do not stay as they are.

Limits were set on true renders of seeds that no test uses, whole and after blur, noise and codecs (400 clips each): the worst of those is
in the comment beside each.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from videodit.data.worlds.scene import STILL
from videodit.evaluation.judge.motion import track
from videodit.evaluation.judge.segment import HUES, NAMES, Region, hue_chroma_saturation, solid_weight

LEAST_PIECE = 0.06  # of a solid's median area: smaller pieces are what codecs leave (0.029)
LEAST_PIECE_OF_FRAME = 0.0015
LEAST_PURE = 0.75  # of a solid's pixels that are nearest to its own colour, in every frame (0.86)
LEAST_LEFT = 0.12  # of a solid's median area, in every frame (0.23)
LEAST_HOP_SECONDS = 0.9  # shorter clips need not show a hop
COURSE_SECONDS = 0.6  # shorter clips have no course
LEAST_HOP = 0.021  # shorter sides: the spread of the height around a parabola; hops had 0.027 or more, others 0.015 or less
# By heading: how x (shorter sides a second) may change in each half of a clip, how log size may, and how far x may stray from a parabola.
_ANY = (-np.inf, np.inf)
COURSES = {
    "left": ((-np.inf, -0.08), _ANY, 0.03),  # -0.16, -, 0.019
    "right": ((0.08, np.inf), _ANY, 0.03),
    "closer": ((-0.13, 0.13), (0.03, np.inf), 0.017),  # 0.09, 0.12, 0.012
    "away": ((-0.13, 0.13), (-np.inf, -0.03), 0.017),  # 0.07, -0.04, 0.012
    STILL: ((-0.06, 0.06), (-0.1, 0.1), 0.012),  # 0.02, 0.035, 0.004
}
PIECES, COLOUR, SHAPE, SIZE, LEAPS, COURSE = (
    "pieces beside the solids", "changes colour", "changes shape", "vanishes or changes size", "leaps", "changes course",
)  # fmt: skip


def _leap_limits(seconds: float) -> np.ndarray:
    """The most that x, y and log size may change (shorter sides) between frames that are `seconds` apart: hops are the fastest.

    At 8 frames a second 0.14, 0.29 and 0.33; true renders had 0.087, 0.21 and 0.23.
    """
    return np.array([0.04 + 0.8 * seconds, 0.04 + 2.0 * seconds, 0.13 + 1.6 * seconds])


def own_pieces(pixels: np.ndarray, regions: Sequence[Region]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Takes a clip apart into connected coloured pieces.

    Returns the weight float32 `[T, H, W]` of each solid's own piece, and of each solid and frame `[solids, T]`: the share of that piece
    that is of a solid's colour, and whether another solid touches it; and the area in pixels of the largest piece that is no solid's,
    `[T]`.
    """
    hue, chroma, saturation = hue_chroma_saturation(pixels)
    weight = solid_weight(chroma, saturation).astype(np.float32)
    nearest = np.argmin(np.abs((hue[..., None] - HUES + 180) % 360 - 180), axis=-1)
    of_colour = [weight * (nearest == NAMES.index(region.colour)) for region in regions]
    known = np.sum(of_colour, axis=0)
    frames = len(pixels)
    mine = [np.zeros_like(weight) for _ in regions]
    pure, touched, strange = np.zeros((len(regions), frames)), np.zeros((len(regions), frames), bool), np.zeros(frames)
    for t in range(frames):
        pieces, count = ndimage.label(weight[t] > 0.3, np.ones((3, 3)))
        if not count:
            continue
        places = np.arange(1, count + 1)
        area, coloured = (ndimage.sum_labels(each[t], pieces, places) for each in (weight, known))
        largest = [int(np.argmax(ndimage.sum_labels(each[t], pieces, places))) for each in of_colour]
        for k, piece in enumerate(largest):
            touched[k, t] = largest.count(piece) > 1
            mine[k][t] = (of_colour[k] if touched[k, t] else weight)[t] * (pieces == piece + 1)
            pure[k, t] = coloured[piece] / area[piece]
        strange[t] = max(np.delete(area, largest), default=0.0)
    return mine, pure, touched, strange


def faults(pixels: np.ndarray, regions: Sequence[Region], fps: float) -> tuple[set[str], list[np.ndarray], list[np.ndarray]]:
    """What is wrong in a clip: of the names above all but `SHAPE` and `COURSE`.

    Also each solid's track `[T, 5]` (see motion.py) and the frames `[T]` in which no other solid touches it: there alone its size and place
    are held against it. `pixels` float `[T, H, W, 3]` in [0, 1]; `regions`, its solids.
    """
    if not regions:
        return set(), [], []
    found: set[str] = set()
    mine, pure, touched, strange = own_pieces(pixels, regions)
    least = min(float(np.median(own.sum((1, 2)))) for own in mine)
    if strange.max() > max(LEAST_PIECE * least, LEAST_PIECE_OF_FRAME * pixels[0, ..., 0].size):
        found.add(PIECES)
    if pure.min() < LEAST_PURE:
        found.add(COLOUR)
    paths, free = [track(own) for own in mine], list(~touched)
    for own, path, alone in zip(mine, paths, free):
        found |= _jumps(own.sum((1, 2)), path, alone, 1 / fps)
    return found, paths, free


def _jumps(area: np.ndarray, path: np.ndarray, free: np.ndarray, seconds: float) -> set[str]:
    """Whether a solid is lost or leaps between frames that are `seconds` apart."""
    seen = np.isfinite(path[:, 0]) & (area >= LEAST_LEFT * np.median(area))
    pairs = (seen & free)[1:] & (seen & free)[:-1]
    x, y, size = np.abs(np.diff(path[:, [0, 1, 3]], axis=0))[pairs].max(axis=0, initial=0)
    limits = _leap_limits(seconds)
    found = {LEAPS} if x > limits[0] or y > limits[1] else set()
    return found | ({SIZE} if size > limits[2] or not seen[free].all() else set())


def hops(path: np.ndarray, free: np.ndarray, fps: float) -> bool | None:
    """Whether a solid goes up and down on its way; None in a clip that is too short to say."""
    use = free & np.isfinite(path[:, 0])
    times = np.flatnonzero(use) / fps
    if len(times) < 5 or times[-1] - times[0] < LEAST_HOP_SECONDS:
        return None
    return off_curve(times, path[use, 1]) > LEAST_HOP


def keeps_course(path: np.ndarray, free: np.ndarray, fps: float, heading: str) -> bool:
    """Whether a solid goes on as `heading` says in both halves of a clip, before a camera that stands still; true of too short clips."""
    use = free & np.isfinite(path[:, 0])
    times = np.flatnonzero(use) / fps
    if len(times) < 5 or times[-1] - times[0] < COURSE_SECONDS:
        return True
    x, size, stray = COURSES[heading]
    inside = lambda limits, values: all(limits[0] <= slope <= limits[1] for slope in half_slopes(times, values))
    return inside(x, path[use, 0]) and inside(size, path[use, 3]) and off_curve(times, path[use, 0]) <= stray


def half_slopes(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Least-squares slopes of the first and the second half of a curve."""
    middle = len(times) // 2
    return tuple(float(np.polyfit(times[part], values[part], 1)[0]) for part in (slice(0, len(times) - middle), slice(middle, None)))


def off_curve(times: np.ndarray, values: np.ndarray) -> float:
    """The spread of `values` around the parabola through them that fits best."""
    times = times - times.mean()
    return float(np.std(values - np.polyval(np.polyfit(times, values, 2), times)))

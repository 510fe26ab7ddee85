"""Whether a solid keeps its brightness, hue and size over the frames of a clip, as read from pixels."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from videodit.evaluation.judge.segment import box, hue_chroma_saturation, segment

PROPERTIES = ("brightness", "hue", "area")
_LEAST_FRAMES = 4  # a line through 3 points leaves little to be spread about it
_LEAST_AREA = 8.0  # pixels
_STILL = 1.0  # pixels that the middle of a solid may move over a clip


@dataclass(frozen=True, kw_only=True)
class Course:
    """The largest solid of a clip over the n frames in which it is whole.

    `frames` int [n]; `brightness` [n], the mean of the lightest colour in grey levels; `hue` [n] in degrees, unwrapped; `area` [n], the
    logarithm of its pixels; `still`, whether its middle stays within a pixel; `lost`, the share of the clip's frames without it.
    """

    frames: np.ndarray
    brightness: np.ndarray
    hue: np.ndarray
    area: np.ndarray
    still: bool
    lost: float


def course(clip: np.ndarray) -> Course | None:
    """Follows the largest solid of uint8 `[T, H, W, 3]`; None without one, or where it is whole in fewer than 4 frames."""
    pixels = clip.astype(np.float32) / 255
    regions = segment(pixels)
    if not regions:
        return None
    weight = regions[0].weight
    there = weight.sum((1, 2)) >= _LEAST_AREA
    frames = np.array([t for t in np.flatnonzero(there) if _whole(weight[t])], int)
    if len(frames) < _LEAST_FRAMES:
        return None
    weight, pixels = weight[frames], pixels[frames]
    area = weight.sum((1, 2))
    hue, chroma, _ = hue_chroma_saturation(pixels)
    turned = (weight * chroma * np.exp(1j * np.deg2rad(hue))).sum((1, 2))
    middles = np.stack([(weight.sum(axis) * np.arange(weight.shape[3 - axis])).sum(1) / area for axis in (1, 2)])
    return Course(
        frames=frames,
        brightness=(weight * pixels.max(-1)).sum((1, 2)) / area * 255,
        hue=np.rad2deg(np.unwrap(np.angle(turned))),
        area=np.log(area),
        still=bool(np.ptp(middles, axis=1).max() < _STILL),
        lost=1 - float(there.mean()),
    )


def _whole(weight: np.ndarray) -> bool:
    """Whether a solid's box keeps off the frame's border: one that leaves it loses area as it should."""
    edges = box(weight)
    height, width = weight.shape
    return edges is not None and min(edges[0], edges[1]) > 0.5 and edges[2] < width - 0.5 and edges[3] < height - 0.5


def slope_and_spread(course: Course, name: str, fps: float) -> tuple[float, float]:
    """Of a property: |slope| of the line that fits it best, a second, and the root mean square distance from that line."""
    values, seconds = getattr(course, name), course.frames / fps
    slope, start = np.polyfit(seconds, values, 1)
    return abs(float(slope)), float(np.sqrt(np.mean((values - start - slope * seconds) ** 2)))


def constancy(clips: Iterable[np.ndarray], fps: float) -> dict[str, float | int | None]:
    """Medians over clips of how a solid changes: its `brightness` (grey levels), `hue` (degrees) and `area` (its logarithm: about shares).

    `NAME_slope` is per second and `NAME_spread` about the slope; `still_NAME_...` are those of clips whose solid stays in place, where
    perspective changes nothing and both should be 0. What moves grows and shrinks as it comes closer and goes away, and a bounce moves its
    light: hold these against true renders of the same kind of clips. `clips` and `still_clips` count; `lost` is the mean share of frames
    in which the solid of a clip is missing. Figures without a clip are None.
    """
    found = [each for each in (course(clip) for clip in clips) if each is not None]
    still = [each for each in found if each.still]
    figures: dict[str, float | int | None] = {
        "clips": len(found),
        "still_clips": len(still),
        "lost": float(np.mean([each.lost for each in found])) if found else None,
    }
    for prefix, chosen in (("", found), ("still_", still)):
        for name in PROPERTIES:
            pairs = [slope_and_spread(each, name, fps) for each in chosen]
            slope, spread = (float(each) for each in np.median(pairs, axis=0)) if pairs else (None, None)
            figures |= {f"{prefix}{name}_slope": slope, f"{prefix}{name}_spread": spread}
    return figures

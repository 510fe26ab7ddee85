"""Where a world's solid is in every frame of a clip, and how steadily a clip goes on: what generation tasks are measured by."""

import numpy as np

from videodit.evaluation.judge.motion import track
from videodit.evaluation.judge.segment import segment
from videodit.evaluation.judge.verdict import prepared

LOST = 0.5  # shorter sides: what a frame counts in which the solid is not seen


def path_of(clip: np.ndarray, colour: str) -> np.ndarray:
    """`[T, 3]`: x, y of a solid's centre from the middle and the log of its size, in shorter sides of the frame; NaN where it is not seen.

    The solid is that of the colour, else the largest. `clip` uint8 `[T, H, W, 3]`.
    """
    found = segment(prepared(clip))
    chosen = [region for region in found if region.colour == colour] or found
    return np.full((len(clip), 3), np.nan) if not chosen else track(chosen[0].weight)[:, [0, 1, 3]]


def position_error(path: np.ndarray, true: np.ndarray) -> float:
    """Mean distance between two paths' centres, in shorter sides; `LOST` where only the true one is seen."""
    seen = np.isfinite(true[:, 0])
    apart = np.hypot(*(path[seen, :2] - true[seen, :2]).T)
    return float(np.where(np.isfinite(apart), np.minimum(apart, LOST), LOST).mean()) if seen.any() else float("nan")


def velocity(path: np.ndarray, fps: float) -> np.ndarray:
    """(x, y, log size) a second, by least squares over the frames in which the solid is seen; zeros where those are fewer than two."""
    seen = np.flatnonzero(np.isfinite(path[:, 0]))
    if len(seen) < 2:
        return np.zeros(3)
    times = (seen - seen.mean()) / fps
    return times @ (path[seen] - path[seen].mean(axis=0)) / (times @ times)


def speed_error(path: np.ndarray, true: np.ndarray, fps: float) -> float:
    """How far the speed is off the true one, in shorter sides a second; growing counts as moving."""
    return float(abs(np.linalg.norm(velocity(path, fps)) - np.linalg.norm(velocity(true, fps))))


def direction_error(path: np.ndarray, true: np.ndarray, fps: float) -> float:
    """The angle between both velocities in degrees; 90, which is no better than chance, where one stands still."""
    a, b = velocity(path, fps), velocity(true, fps)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return 90.0 if lengths < 1e-6 else float(np.degrees(np.arccos(np.clip(a @ b / lengths, -1, 1))))


def steps(clip: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each two neighbouring frames, in grey levels, `[T - 1]`."""
    return np.abs(np.diff(clip.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))


def seam(clip: np.ndarray) -> float:
    """The step from a loop's last frame to its first, in median steps of the clip; 0 where it is none."""
    closing = float(np.abs(clip[-1].astype(np.float32) - clip[0]).mean())
    return closing / float(max(np.median(steps(clip)), 1e-6)) if closing else 0.0


def share_of_colour(clip: np.ndarray, wanted: str, old: str) -> float:
    """Of the pixels that are of one colour or the other, the share of the wanted one; 0 where there are none."""
    mass = {region.colour: float(region.weight.sum()) for region in segment(prepared(clip))}
    both = mass.get(wanted, 0.0) + mass.get(old, 0.0)
    return mass.get(wanted, 0.0) / both if both else 0.0


def appearance(clip: np.ndarray, colour: str) -> tuple[float, float]:
    """Mean brightness (the largest of red, green and blue, in [0, 1]) and size (the root of the area, in shorter sides) of a solid; NaN
    where it is not seen. The solid is as `path_of` chooses it."""
    pixels = prepared(clip)
    found = segment(pixels)
    chosen = ([region for region in found if region.colour == colour] or found)[:1]
    if not chosen:
        return float("nan"), float("nan")
    weight = chosen[0].weight
    return float((pixels.max(-1) * weight).sum() / weight.sum()), float(np.sqrt(weight.sum((1, 2)).mean()) / min(weight.shape[1:]))

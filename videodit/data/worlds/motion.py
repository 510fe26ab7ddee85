"""Where a solid is and how it is turned, as a function of time alone."""

import numpy as np

from videodit.data.worlds import shapes
from videodit.data.worlds.scene import DIRECTIONS, Solid

HOP_SECONDS = 0.6


def rotation(axis: str, angles: np.ndarray) -> np.ndarray:
    """Rotation matrices [T, 3, 3] about the x, y or z axis by `angles` [T] in radians."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    out = np.zeros((len(angles), 3, 3))
    out[:] = np.eye(3)
    out[:, i, i] = out[:, j, j] = np.cos(angles)
    out[:, i, j], out[:, j, i] = -np.sin(angles), np.sin(angles)
    return out


def travel(solid: Solid, times: np.ndarray) -> np.ndarray:
    """Displacement (x, z) from the start at each time, [T, 2]."""
    motion = solid.motion
    if motion.direction not in DIRECTIONS:
        return np.zeros((len(times), 2))
    heading = np.array(DIRECTIONS[motion.direction])
    if motion.kind not in ("turns", "stops"):
        return motion.speed * times[:, None] * heading
    moved = motion.speed * np.minimum(times, motion.event)[:, None] * heading
    if motion.kind == "turns":
        moved = moved + motion.speed * np.maximum(times - motion.event, 0.0)[:, None] * np.array(DIRECTIONS[motion.then])
    return moved


def poses(solid: Solid, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [T, 3] and rotations [T, 3, 3] (local to world) at `times` [T] in seconds, float64."""
    times = np.asarray(times, np.float64)
    moved, motion = travel(solid, times), solid.motion
    centres = np.empty((len(times), 3))
    centres[:, 0] = motion.start[0] + moved[:, 0]
    centres[:, 2] = motion.start[1] + moved[:, 1]
    centres[:, 1] = shapes.rest_height(solid.shape, solid.half)
    if motion.hop:
        phase = (times / HOP_SECONDS + motion.hop_phase) % 1.0
        centres[:, 1] += motion.hop * 4.0 * phase * (1.0 - phase)
    turned = rotation("y", np.full(len(times), solid.yaw))
    if motion.kind == "rolls":
        # Rolling without slipping: the angle is the way gone over the radius. A ring rolls in its own plane.
        along_x = motion.direction in ("left", "right")
        way = moved[:, 0] if along_x else moved[:, 1]
        roll = rotation("z", -way / solid.half) if along_x else rotation("x", way / solid.half)
        turned = roll @ turned
    return centres, turned

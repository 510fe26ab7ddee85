"""The camera's pose as a function of time, and where a point of the world falls on the screen."""

import dataclasses

import numpy as np

from videodit.data.worlds.motion import rotation
from videodit.data.worlds.scene import Camera


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """The camera at T moments: positions [T, 3], axes [T, 3, 3] (columns right, up, forward), focal lengths [T]."""

    position: np.ndarray
    axes: np.ndarray
    focal: np.ndarray


def view(camera: Camera, times: np.ndarray) -> View:
    """The camera at `times` [T] in seconds."""
    progress = camera.rate * (np.asarray(times, np.float64) - camera.middle)
    zero = np.zeros_like(progress)
    pan = {"pan left": -progress, "pan right": progress}.get(camera.move, zero)
    orbit = {"orbit left": progress, "orbit right": -progress}.get(camera.move, zero)
    zoom = {"zoom in": progress, "zoom out": -progress}.get(camera.move, zero)
    tilt = rotation("x", np.full(len(progress), camera.elevation))
    position = np.array(camera.target) - camera.distance * (rotation("y", orbit) @ tilt)[:, :, 2]
    return View(position=position, axes=rotation("y", orbit + pan) @ tilt, focal=camera.distance * np.exp(zoom))


def project(view: View, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel coordinates (x right, y down) of world points [T, N, 3] as [T, N, 2]; points behind are kept far in front."""
    local = np.matmul(points - view.position[:, None], view.axes)
    scale = view.focal[:, None] * min(height, width) / np.maximum(local[..., 2], 0.05)
    return np.stack([width / 2 + scale * local[..., 0], height / 2 - scale * local[..., 1]], axis=-1)

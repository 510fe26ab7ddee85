"""How the camera moves, from how the grey of ground and sky moves.

The stage is known: the ground is flat and the camera looks at it from a known angle. So a pan, an orbit and a zoom each
move the picture by a known field, and their three rates follow from one least-squares fit of brightness constancy
(Lucas and Kanade, An iterative image registration technique, 1981) over all frames, with solids and shadows left out.
"""

import functools

import numpy as np

from videodit.data.worlds.camera import project, view
from videodit.data.worlds.scene import Camera
from videodit.evaluation.judge.segment import hue_chroma_saturation, solid_weight

MODES = ("pan right", "orbit left", "zoom in")
PAIR_SECONDS = (0.125, 0.25)  # time between compared frames: one or two pixels of motion in a small clip
ROBUST_STEPS = 3


def ground_points(height: int, width: int) -> np.ndarray:
    """World points [H, W, 3] that the nominal camera sees in each pixel: on the ground, or far away for the sky."""
    seen = view(Camera(), np.zeros(1) + Camera().middle)
    short = min(height, width)
    x = (np.arange(width) + 0.5 - width / 2) / short
    y = (height / 2 - np.arange(height) - 0.5) / short
    screen = np.stack([*np.meshgrid(x, y), np.full((height, width), seen.focal[0])], axis=-1)
    rays = screen @ seen.axes[0].T
    reach = np.where(rays[..., 1] < -0.02, -seen.position[0, 1] / np.minimum(rays[..., 1], -0.02), 40.0)
    return seen.position[0] + rays * reach[..., None]


@functools.lru_cache(maxsize=64)
def flow_fields(height: int, width: int) -> np.ndarray:
    """Motion of each pixel in pixels per unit of pan, orbit and zoom: float32 [3, H, W, 2] (x, y)."""
    points = ground_points(height, width).reshape(1, -1, 3)
    step = 1e-3
    fields = []
    for move in MODES:
        moved = view(Camera(move=move, rate=1.0, middle=0.0), np.array([-step, step]))
        before, after = project(moved, np.repeat(points, 2, axis=0), height, width)
        fields.append((after - before) / (2 * step))
    return np.stack(fields).reshape(3, height, width, 2).astype(np.float32)


def widen(mask: np.ndarray, by: int) -> np.ndarray:
    """Grows a boolean mask [T, H, W] by `by` pixels in each direction."""
    for _ in range(by):
        grown = mask.copy()
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown.copy()
        grown[:, :, 1:] |= mask[:, :, :-1]
        grown[:, :, :-1] |= mask[:, :, 1:]
        mask = grown
    return mask


def _smooth(grey: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        padded = np.pad(grey, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        n = grey.shape[axis]
        cut = [np.take(padded, np.arange(k, k + n), axis=axis) for k in range(3)]
        grey = 0.25 * cut[0] + 0.5 * cut[1] + 0.25 * cut[2]
    return grey


def camera_rates(pixels: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates a second along MODES and the same in units of their standard error, each [pairs, 3], from frames that are
    each of PAIR_SECONDS apart. Zeros where there is nothing to compare."""
    frames, height, width, _ = pixels.shape
    rates = np.zeros((2, len(PAIR_SECONDS), len(MODES)))
    if frames < 2:
        return rates[0], rates[1]
    _, chroma, saturation = hue_chroma_saturation(pixels)
    grey = pixels.mean(-1)
    level = np.median(grey, axis=2, keepdims=True)
    hidden = widen(solid_weight(chroma, saturation) > 0.3, 2) | widen(grey < 0.87 * level, 2)
    grey = _smooth(_smooth(grey))
    for k, seconds in enumerate(PAIR_SECONDS):
        step = int(np.clip(round(seconds * fps), 1, frames - 1))
        rates[0, k], rates[1, k] = _flow(grey, hidden, step)
        rates[0, k] *= fps / step
    return rates[0], rates[1]


def _flow(grey, hidden, step):
    """Motion along MODES between frames `step` apart, and the same in units of its standard error."""
    frames, height, width = grey.shape
    first, second = slice(None, frames - step), slice(step, None)
    use = ~(hidden[first] | hidden[second])
    use[:, [0, -1]] = use[:, :, [0, -1]] = False
    if use.sum() < 40:
        return np.zeros(3), np.zeros(3)
    down, right = np.gradient(0.5 * (grey[first] + grey[second]), axis=(1, 2))
    change = (grey[second] - grey[first])[use].astype(np.float64)
    slopes = np.stack([(right * field[..., 0] + down * field[..., 1])[use] for field in flow_fields(height, width)], axis=1)
    slopes = slopes.astype(np.float64)
    trust = np.ones(len(change))
    # What is left of shadows and reflections moves otherwise than the ground: such pixels lose their say.
    for _ in range(ROBUST_STEPS):
        normal = (slopes * trust[:, None]).T @ slopes + 1e-6 * np.eye(3)
        found = np.linalg.solve(normal, -slopes.T @ (trust * change))
        rest = change + slopes @ found
        scale = 1.48 * np.median(np.abs(rest)) + 1e-4
        trust = 1 / (1 + (rest / (2.5 * scale)) ** 2) ** 2
    return found, found / (np.sqrt(np.diag(np.linalg.inv(normal))) * scale)


def camera_features(rates: np.ndarray, certainty: np.ndarray, seconds: float) -> np.ndarray:
    """What the camera classifier reads, [13]."""
    return np.concatenate([rates.ravel(), (np.sign(certainty) * np.log1p(np.abs(certainty))).ravel(), [seconds]])

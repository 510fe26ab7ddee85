"""How a solid moves over the ground: its track on the screen, less what the camera's own motion adds."""

import numpy as np

from videodit.evaluation.judge.camera import flow_fields
from videodit.evaluation.judge.segment import box

WINDOWS = ((0.0, 0.51), (0.49, 9.0), (0.0, 9.0))  # seconds: the first heading, what comes after, and all of it
FEATURES = 26


def track(weight: np.ndarray) -> np.ndarray:
    """[T, 5] in units of the shorter side: centre x, centre y, bottom y, log size, share of the box at a side edge; NaN where not seen."""
    frames, height, width = weight.shape
    short = min(height, width)
    mass = weight.sum((1, 2))
    out = np.full((frames, 5), np.nan)
    for t in range(frames):
        edges = box(weight[t]) if mass[t] >= 4 else None
        if edges is None:
            continue
        left, top, right, bottom = edges
        out[t] = ((left + right) / 2 - width / 2) / short, ((top + bottom) / 2 - height / 2) / short, (bottom - height / 2) / short, \
            0.5 * np.log(mass[t] / short**2), (left < 0.8) * -1.0 + (right > width - 0.8) * 1.0
    return out


def _slope(times, values):
    """Least-squares slope and the spread around the line; zeros for fewer than two points."""
    if len(times) < 2:
        return 0.0, 0.0
    centred = times - times.mean()
    slope = float(centred @ (values - values.mean()) / (centred @ centred))
    return slope, float(np.std(values - values.mean() - slope * centred))


def motion_features(weight: np.ndarray, fps: float, rates: np.ndarray) -> np.ndarray:
    """What the motion classifier reads, [FEATURES]; `rates` are the camera's (see camera.py)."""
    frames, height, width = weight.shape
    path, times = track(weight), np.arange(frames) / fps
    seen = np.isfinite(path[:, 0])
    if seen.sum() < 2:
        return np.zeros(FEATURES)
    short = min(height, width)
    mean = np.nanmean(path, axis=0)
    row = int(np.clip(mean[2] * short + height / 2, 0, height - 1))
    column = int(np.clip(mean[0] * short + width / 2, 0, width - 1))
    drift = np.tensordot(rates, flow_fields(height, width)[:, row, column], 1) / short
    out = []
    for start, end in WINDOWS:
        inside = seen & (times >= start) & (times <= end)
        slopes = [_slope(times[inside], path[inside, k]) for k in range(4)]
        out += [slopes[0][0] - drift[0], slopes[1][0] - drift[1], slopes[2][0] - drift[1], slopes[3][0] - rates[2]]
    out += [_slope(times[seen], path[seen, k])[1] for k in range(4)]
    out += [*rates, mean[0], mean[1], mean[3], np.nanmean(path[:, 4]), float(times[-1] > 0.51), times[-1], float(seen.mean())]
    return np.array(out)

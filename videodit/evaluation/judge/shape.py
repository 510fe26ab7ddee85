"""What a solid's silhouette and shading look like, in a form that does not depend on its place, size or colour."""

import numpy as np

from videodit.evaluation.judge.segment import box

SIDE = 16  # samples along each side of the cut-out
MARGIN = 1.16
VIEWS = 5  # frames of a clip that are looked at


def _bilinear(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of `picture` [H, W, C] at pixel centres y [n] and x [m]: [n, m, C]; zero outside."""
    height, width, _ = picture.shape
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    y, x = np.clip(y + 0.5, 0, height + 1 - 1e-3), np.clip(x + 0.5, 0, width + 1 - 1e-3)
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    rows = padded[y0] * (1 - fy) + padded[y0 + 1] * fy
    return rows[:, x0] * (1 - fx) + rows[:, x0 + 1] * fx


def shape_features(pixels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Cut-outs of one solid in up to VIEWS frames: [n, 2 * SIDE * SIDE], silhouette and then relative brightness.

    pixels: float [T, H, W, 3]; weight: [T, H, W]. n is 0 when the solid is never large enough to look at.
    """
    mass = weight.sum((1, 2))
    good = np.flatnonzero(mass >= max(8.0, 0.4 * float(np.median(mass[mass > 1])) if (mass > 1).any() else 8.0))
    if len(good) > VIEWS:
        good = good[np.round(np.linspace(0, len(good) - 1, VIEWS)).astype(int)]
    out = []
    for t in good:
        left, top, right, bottom = box(weight[t])
        side = MARGIN * max(right - left, bottom - top)
        grid = (np.arange(SIDE) + 0.5) / SIDE - 0.5
        value = pixels[t].max(-1)
        mean = float((value * weight[t]).sum() / mass[t])
        stack = np.stack([weight[t], weight[t] * (value / max(mean, 1e-3) - 1)], axis=-1)
        cut = _bilinear(stack, (top + bottom) / 2 + side * grid, (left + right) / 2 + side * grid)
        out.append(np.concatenate([cut[..., 0].ravel(), 2 * cut[..., 1].ravel()]))
    return np.array(out, np.float32).reshape(-1, 2 * SIDE * SIDE)

"""What a clip is measured by, and whether it is kept."""

import numpy as np

from videodit.data.curate.config import CurateConfig

_LIMITS = (("motion", "min"), ("motion", "max"), ("sharpness", "min"), ("brightness", "min"), ("brightness", "max"))


def sharpness(luma: np.ndarray) -> float:
    """Returns the variance of the Laplacian of a picture `[H, W]`, 0 to 255; blur makes it small.

    Pech-Pacheco et al., Diatom Autofocusing in Brightfield Microscopy: a Comparative Study, 2000.
    """
    if min(luma.shape) < 3:
        return 0.0
    luma = luma.astype(np.float32)
    inner = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    return float(inner.var())


def motion(changes: np.ndarray, times: np.ndarray) -> float:
    """Returns the mean change of luma a second.

    Args:
      changes: `[T]`, mean absolute difference of luma (0 to 255) from the frame before; the first is not used.
      times: `[T]`, seconds at which each frame comes on screen, T at least 2.
    """
    return float(changes[1:].sum() / max(times[-1] - times[0], 1e-3))


def reject(measures: dict[str, float | str], frames: int, config: CurateConfig) -> str | None:
    """Returns why a clip is left out, or None where it is kept. A limit on what was not measured, as a still's motion, lets it pass."""
    if frames < config.min_frames:
        return f"frames {frames} are below data.curate.min_frames {config.min_frames}"
    for name, side in _LIMITS:
        limit, value = getattr(config, f"{side}_{name}"), measures.get(name)
        if limit is None or value is None:
            continue
        if value < limit if side == "min" else value > limit:
            return f"{name} {value:.4g} is {'below' if side == 'min' else 'above'} data.curate.{side}_{name} {limit:g}"
    return None

"""Seams on the latent grid: how much larger steps between neighbouring pixels are across its boundaries than inside its blocks."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Stride = tuple[int, int, int]  # frames, rows and columns of pixels that a latent covers

SMOOTH_LEVELS = 12.0  # grey levels: a step of more is an edge of what is shown, not a seam
_LEAST = 1e-3  # grey levels, added to both means: a constant clip has ratio 1, and one of constant blocks a large finite one
_AXES = ("space", "time")
_KINDS = ("plain", "smooth")


class Seams:
    """Sums the steps of clips, so that a ratio is of means over all of them and not a mean of ratios.

    A step is |difference| of two neighbouring pixels, over all colours, in grey levels. In space it is across a boundary where it ends on
    a row or column that is a multiple of the stride; in time, by the causal layout of latents (1, s, s, ... frames), where it ends on
    frame 1 + k * s. Smooth steps are those of at most SMOOTH_LEVELS in the truth, or in the clip itself where it has no aligned truth: a
    seam shows there, and it matters less where a solid's edge happens to lie. After Wu and Yuen, "A generalized block-edge impairment
    metric for video coding" (1997).
    """

    def __init__(self, stride: Stride):
        self.stride = stride
        self._totals = np.zeros((len(_AXES), len(_KINDS), 2, 2))  # axis, kind, (inside, across), (sum, count)

    def add(self, clip: np.ndarray, truth: np.ndarray | None = None) -> None:
        """Adds uint8 `[T, H, W, 3]`; `truth`, of the same shape, decides which steps are smooth."""
        for axis, stride in enumerate(self.stride):
            steps = _steps(clip, axis)
            smooth = (steps if truth is None else _steps(truth, axis)).mean(-1) <= SMOOTH_LEVELS
            ends = np.arange(1, clip.shape[axis])
            across = ends % stride == (1 % stride if axis == 0 else 0)
            for place in (0, 1):
                chosen = np.flatnonzero(across == bool(place))
                own, kept = steps.take(chosen, axis), smooth.take(chosen, axis)
                to = self._totals[int(axis == 0), :, place]
                to[0] += own.sum(), own.size
                to[1] += own[kept].sum(), own[kept].size

    def __iadd__(self, other: "Seams") -> "Seams":
        self._totals += other._totals
        return self

    def ratios(self) -> dict[str, float | None]:
        """Mean step across over mean step inside: `space`, `space_smooth`, `time` and `time_smooth`; 1 has no seams.

        None where there is nothing to compare: no boundary, or nothing but boundaries, as in time with images alone.
        """
        found: dict[str, float | None] = {}
        for axis, kind in np.ndindex(len(_AXES), len(_KINDS)):
            (inside, insides), (across, acrosses) = self._totals[axis, kind]
            name = _AXES[axis] + ("_smooth" if kind else "")
            found[name] = float((across / acrosses + _LEAST) / (inside / insides + _LEAST)) if insides and acrosses else None
        return found


def _steps(clip: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(np.diff(clip.astype(np.int16), axis=axis)).astype(np.float32)


def seam_figures(clips: Iterable[np.ndarray], truths: Iterable[np.ndarray], stride: Stride, aligned: bool = False) -> dict[str, Any]:
    """Seams of clips beside those of the truth, by `space`, `space_smooth`, `time` and `time_smooth`: see `Seams`.

    Takes uint8 `[T, H, W, 3]`. `aligned` says that the i-th truth shows what the i-th clip shows; otherwise there may be another number of
    them. Returns `ratio` of the clips, `truth` (that of the truths) and `over_truth`, their quotient, the headline: 1 has no more seams
    than the truth. None where one does not apply.
    """
    if aligned:
        pairs = [seams_of_pair(clip, truth, stride) for clip, truth in zip(clips, truths, strict=True)]
        return compared(*(sum_of(each) for each in zip(*pairs)))
    made, true = Seams(stride), Seams(stride)
    for clip in clips:
        made.add(clip)
    for truth in truths:
        true.add(truth)
    return compared(made, true)


def seams_of_pair(clip: np.ndarray, truth: np.ndarray, stride: Stride) -> tuple[Seams, Seams]:
    """Sums of the steps of a clip and of the truth that it is aligned with, both where the truth is smooth."""
    made, true = Seams(stride), Seams(stride)
    made.add(clip, truth)
    true.add(truth)
    return made, true


def sum_of(parts: Sequence[Seams]) -> Seams:
    """The sums of one or more, all of one stride."""
    total = Seams(parts[0].stride)
    for each in parts:
        total += each
    return total


def compared(made: Seams, true: Seams) -> dict[str, Any]:
    """The figures of `seam_figures`, from sums."""
    ratios, of_truth = made.ratios(), true.ratios()
    return {name: {"ratio": a, "truth": of_truth[name], "over_truth": _quotient(a, of_truth[name])} for name, a in ratios.items()}


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b

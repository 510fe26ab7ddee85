"""Measures of the picture itself, of samples beside true renders: what no reader of captions sees. No sample is aligned with a truth."""

from collections.abc import Sequence
from typing import Any

from etils import epath
import numpy as np

from videodit.evaluation.constancy import constancy
from videodit.evaluation.frechet import frechet_video_distance
from videodit.evaluation.seams import Seams, Stride
from videodit.evaluation.sharpness import PERCENTILES, edge_width, gradient_percentiles
from videodit.evaluation.steadiness import background_change
from videodit.evaluation.two_sample import Described, describe, two_sample_test

Clips = Sequence[np.ndarray]

_AGAINST_TRUTH = ("seams.", "gradient.", "edge_width")  # figures whose quotient with the truth's means something


def picture_measures(
    samples: Clips,
    through_vae: Clips,
    true: Clips,
    stride: Stride,
    fps: float,
    fvd_clips: int = 0,
    fvd_weights: epath.PathLike | None = None,
) -> dict[str, Any]:
    """Measures samples beside true renders `through_vae` and `true` renders, all uint8 `[T, H, W, 3]`; `stride` is the VAE's.

    Their sizes, lengths and what they show should be distributed alike, best in the same order; `true` ones that are twice as many make
    the floors better. Returns figures as JSON holds them, None where one does not apply:

    - `figures`: by name ("seams.space", ...) the figure of `samples`, `vae` and `true`. Of `seams.*`, 1 is no seam and `over_true` is the
      quotient of samples and truth, as it is of `gradient.*` (percentiles, grey levels a pixel) and `edge_width` (pixels). Those of
      `background.*` are grey levels, see `background_change`; of `solid.*`, see `constancy`.
    - `two_sample`: accuracies of telling `samples_from_vae` (the headline), `samples_from_true`, `vae_from_true` and `true_from_true`, two
      halves of the truth that should be at 0.5; see `two_sample_test`.
    - `fvd`: of up to `fvd_clips` samples against true renders, and of these against others, see `frechet_video_distance`; None where
      `fvd_clips` is 0. It takes I3D through three times as many clips.
    """
    subjects = {"samples": samples, "vae": through_vae, "true": true}
    rows = {name: _figures(clips, stride, fps) for name, clips in subjects.items()}
    figures = {figure: {name: row[figure] for name, row in rows.items()} for figure in rows["samples"]}
    for figure, row in figures.items():
        if figure.startswith(_AGAINST_TRUTH):
            row["over_true"] = row["samples"] / row["true"] if row["samples"] is not None and row["true"] else None
    return {
        "figures": figures,
        "two_sample": told_apart(subjects, stride),
        "fvd": frechet_video_distance(samples, true, fvd_clips, fvd_weights) if fvd_clips else None,
    }


def _figures(clips: Clips, stride: Stride, fps: float) -> dict[str, Any]:
    seams = Seams(stride)
    for clip in clips:
        seams.add(clip)
    percentiles = gradient_percentiles(clips) or [None] * len(PERCENTILES)
    return {
        **_named("seams.", seams.ratios()),
        **_named("gradient.", dict(zip((f"{each:g}" for each in PERCENTILES), percentiles))),
        "edge_width": edge_width(clips),
        **_named("background.", background_change(clips)),
        **_named("solid.", constancy(clips, fps)),
    }


def _named(prefix: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: figure for name, figure in figures.items()}


def told_apart(subjects: dict[str, Clips], stride: Stride) -> dict[str, Any]:
    """The two-sample tests of `picture_measures`."""
    sets = dict(zip(subjects, describe(list(subjects.values()), stride)))
    halves = [_part(sets["true"], range(start, len(subjects["true"]), 2)) for start in (0, 1)]
    return {
        "samples_from_vae": two_sample_test(sets["samples"], sets["vae"]),
        "samples_from_true": two_sample_test(sets["samples"], sets["true"]),
        "vae_from_true": two_sample_test(sets["vae"], sets["true"]),
        "true_from_true": two_sample_test(*halves),
    }


def _part(described: Described, chosen: Sequence[int]) -> Described:
    return Described(shapes=[described.shapes[i] for i in chosen], features=described.features[list(chosen)])

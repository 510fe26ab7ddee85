"""Classifier two-sample test: can a classifier tell samples from true renders? Half right is as good as the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videodit.evaluation.clip_features import clip_features
from videodit.evaluation.judge.intervals import wilson

_FOLDS = 5
_PENALTIES = np.logspace(-2, 5, 15)
_MOST = 5.0  # deviations beyond which a feature says no more
_LEAST_PAIRS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """A set of n clips: their shapes (T, H, W, 3) and `features` float `[n, f]`."""

    shapes: list[tuple[int, ...]]
    features: np.ndarray


def describe(sets: Sequence[Sequence[np.ndarray]], stride: tuple[int, int, int]) -> list[Described]:
    """Sets of uint8 clips `[T, H, W, 3]` as features that can be compared: see `clip_features`."""
    features = clip_features([clip for each in sets for clip in each], stride)
    ends = np.cumsum([len(each) for each in sets])[:-1]
    return [Described(shapes=[clip.shape for clip in each], features=own) for each, own in zip(sets, np.split(features, ends))]


def two_sample_test(a: Described, b: Described, seed: int = 0) -> dict[str, Any] | None:
    """Held-out accuracy of a classifier that is trained to tell clips `a` from clips `b`: 0.5 where it cannot.

    Lopez-Paz and Oquab, "Revisiting classifier two-sample tests" (2017), with five-fold cross-validation in the place of one split, and
    ridge regression on features. Of each shape there are as many of both, the first ones, so that shape tells nothing. The i-th of a shape
    in `a` and in `b` are held out together: clips of one scene cannot give each other away.

    Returns `accuracy`, `low` and `high` (its 95 % interval, Wilson's), `clips` of each side, and `by_frames`, the accuracy by length.
    None for fewer than 10 pairs. The same clips and seed give the same figures.
    """
    pairs = _matched(a.shapes, b.shapes)
    if len(pairs) < _LEAST_PAIRS:
        return None
    shapes = 2 * [a.shapes[i] for i, _ in pairs]
    features = _standardised(np.concatenate([a.features[[i for i, _ in pairs]], b.features[[j for _, j in pairs]]]), shapes)
    labels = np.repeat([1.0, -1.0], len(pairs))
    folds = np.tile(_folds(shapes[: len(pairs)], seed), 2)
    right = np.zeros(len(shapes))
    for fold in range(_FOLDS):
        held = folds == fold
        right[held] = (1 + np.sign(_ridge(features[~held], labels[~held], features[held])) * labels[held]) / 2  # a tie is half right
    low, high = wilson(right.sum(), len(right))
    frames = np.array([shape[0] for shape in shapes])
    by_frames = {str(length): float(right[frames == length].mean()) for length in np.unique(frames)}
    return {"accuracy": float(right.mean()), "low": low, "high": high, "clips": len(pairs), "by_frames": by_frames}


def _matched(a: Sequence[tuple[int, ...]], b: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Places (i, j) of equal shapes, each once and in order."""
    places: dict[tuple[int, ...], list[int]] = {}
    for j, shape in enumerate(b):
        places.setdefault(shape, []).append(j)
    waiting = {shape: iter(each) for shape, each in places.items()}
    found = [(i, next(waiting.get(shape, iter(())), None)) for i, shape in enumerate(a)]
    return [(i, j) for i, j in found if j is not None]


def _folds(shapes: Sequence[tuple[int, ...]], seed: int) -> np.ndarray:
    """The fold of each pair: those of a shape spread over folds, at random."""
    order = np.random.default_rng(seed).permutation(len(shapes))
    by_shape = sorted(order, key=lambda i: shapes[i])
    folds = np.empty(len(shapes), int)
    folds[by_shape] = np.arange(len(shapes)) % _FOLDS
    return folds


def _standardised(features: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Features less their mean by shape, over their deviation by number of frames: a shape has as many of both sides, so no label leaks."""
    out = features.astype(np.float64)
    for shape in set(shapes):
        own = np.array([each == shape for each in shapes])
        out[own] -= out[own].mean(0)
    for length in {shape[0] for shape in shapes}:
        own = np.array([each[0] == length for each in shapes])
        out[own] /= out[own].std(0) + 1e-6
    return np.clip(out, -_MOST, _MOST)


def _ridge(features: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Scores of `held` by ridge regression on labels of +-1, with the penalty of least leave-one-out error on what it is trained on.

    Features are first weighed by how much each says alone, of what it is trained on: an artefact shows in few of them.
    """
    weight = np.abs(features.T @ labels) / len(labels)
    features, held = features * weight, held * weight
    kernel = features @ features.T
    values, vectors = np.linalg.eigh(kernel)
    turned = vectors.T @ labels
    best, weights = np.inf, np.zeros(len(labels))
    for penalty in _PENALTIES:
        inverse = 1 / (np.maximum(values, 0) + penalty)
        dual = vectors @ (inverse * turned)
        error = np.square(dual / (np.square(vectors) @ inverse)).mean()  # leave-one-out, in closed form
        if error < best:
            best, weights = error, dual
    return (held @ features.T) @ weights

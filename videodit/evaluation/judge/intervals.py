"""How sure a share is: 95 % intervals over prompts, and over single clips."""

from collections.abc import Hashable, Sequence
import dataclasses
import math

import numpy as np

RESAMPLES = 4000
_Z = 1.959964  # the normal distribution's 97.5th percentile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of `n` values, with the ends of its 95 % interval."""

    share: float
    low: float
    high: float
    n: int


def wilson(right: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `right` in `n` independent trials (Wilson, 1927).

    Raises ValueError where n is less than 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected 1 or more")
    share, room = right / n, _Z**2 / n
    middle = (share + room / 2) / (1 + room)
    reach = _Z / (1 + room) * math.sqrt(share * (1 - share) / n + room / (4 * n))
    return max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach))


def bootstrap(values: Sequence[float], clusters: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values`, with whole clusters drawn again with replacement.

    Values of one cluster (clips of one prompt) are not independent; clusters are (Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, chapters 8 and 13). The same seed gives the same interval.
    """
    names = {name: k for k, name in enumerate(dict.fromkeys(clusters))}
    place = np.array([names[name] for name in clusters])
    totals, sizes = np.bincount(place, weights=np.asarray(values, float)), np.bincount(place)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = totals[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def estimate(values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = 0) -> Estimate:
    """The mean of `values` with its interval. Of shares without clusters, and where no value differs from another (which a bootstrap cannot
    see beyond), the interval is Wilson's, over clusters where there are any.
    """
    values = np.asarray(values, float)
    names = range(len(values)) if clusters is None else clusters
    share, independent = float(values.mean()), len(set(names))
    binary = bool(np.isin(values, (0, 1)).all())
    if binary and (clusters is None or len(set(values)) == 1):
        low, high = wilson(round(share * independent), independent)
    else:
        low, high = bootstrap(values, list(names), seed=seed)
    return Estimate(share=share, low=low, high=high, n=len(values))

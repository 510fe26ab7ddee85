"""Buckets: clips of one shape meet in a batch, because convolutions want equal shapes.

The order of batches is a pure function of (seed, batch number), so a resume needs one integer and hosts cannot disagree.
"""

from collections.abc import Callable, Sequence

import numpy as np

from videodit.core.errors import UserError

Size = tuple[int, int, int]  # frames, height, width


# How badly each of n sizes suits each of m buckets: int [n, 3] and [m, 3] to float [n, m], infinite where it must not be.
Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]


def distortion(sizes: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """The aspect ratios' quotient, and a tenth of the areas' and the lengths', as absolute logs: float `[n, m]`.

    Infinite where the bucket is shorter: a clip holds its last frame, and never loses one.
    """
    sizes, buckets = np.asarray(sizes, float)[:, None], np.asarray(buckets, float)[None]
    longer = np.log(buckets[..., 0] / sizes[..., 0])
    return _of_picture(sizes, buckets) + np.where(longer >= 0, 0.1 * longer, np.inf)


def distortion_within(max_tokens: int, tokens: Callable[[Size], int]) -> Cost:
    """The cost of bringing a clip to another height and width and keeping its length: infinite where it would pass `max_tokens`."""

    def cost(sizes: np.ndarray, buckets: np.ndarray) -> np.ndarray:
        fits = [[tokens((frames, *bucket[1:])) <= max_tokens for bucket in buckets.tolist()] for frames, _, _ in sizes.tolist()]
        return np.where(fits, _of_picture(np.asarray(sizes, float)[:, None], np.asarray(buckets, float)[None]), np.inf)

    return cost


def _of_picture(sizes: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    aspect = np.abs(np.log(sizes[..., 1] / sizes[..., 2] * buckets[..., 2] / buckets[..., 1]))
    area = np.abs(np.log(sizes[..., 1] * sizes[..., 2] / (buckets[..., 1] * buckets[..., 2])))
    return aspect + 0.1 * area


def choose_buckets(sizes: Sequence[Size], limit: int, cost: Cost = distortion) -> list[Size]:
    """At most `limit` (frames, height, width) of `sizes` that suit all of them best, chosen greedily; repeats in `sizes` are weights."""
    unique, weights = np.unique(np.asarray(sizes, np.int64).reshape(-1, 3), axis=0, return_counts=True)
    if not len(unique):
        raise UserError("there are no clips to make buckets of: prepare a data set with at least one readable clip")
    if limit < 1:
        raise UserError(f"at most {limit} buckets are asked for: zero batches; expected 1 or more")
    costs = cost(unique, unique)
    chosen: list[int] = []
    best = np.full(len(unique), np.inf)
    while len(chosen) < min(limit, len(unique)) and best.any():
        # All sizes must have a bucket before any gets a better one.
        left = [np.minimum(best, costs[:, i]) for i in range(len(unique))]
        order = [(np.isinf(each).sum(), (weights[~np.isinf(each)] * each[~np.isinf(each)]).sum()) for each in left]
        chosen.append(min((i for i in range(len(unique)) if i not in chosen), key=order.__getitem__))
        best = left[chosen[-1]]
    return [tuple(int(side) for side in unique[i]) for i in chosen]


def nearest_buckets(sizes: Sequence[Size], buckets: Sequence[Size], cost: Cost = distortion) -> list[int]:
    """For each size the number of the bucket that suits it best."""
    unique, places = np.unique(np.asarray(sizes, np.int64).reshape(-1, 3), axis=0, return_inverse=True)
    return cost(unique, np.asarray(buckets)).argmin(axis=1)[places.ravel()].tolist()


def batch_sizes(buckets: Sequence[Size], batch: int, tokens: Callable[[Size], int]) -> list[int]:
    """Clips of a batch for each bucket: `batch` of the largest, and as many times `batch` of the others as have no more tokens in all."""
    most = max(map(tokens, buckets))
    return [batch * (most // tokens(bucket)) for bucket in buckets]


class BucketSchedule:
    """Which clips make up batch n: `members[b]` are the clips of bucket b, `batches[b]` how many of them make a batch.

    Each bucket is a stream of its own, shuffled anew each epoch, in which every clip comes once before any comes twice; batches
    are taken from the streams in proportion to their sizes, in shuffled order. A bucket of fewer clips than a batch holds gives one
    in some epochs only, and its clips come several times in it: on average as often as all others.
    """

    def __init__(self, members: Sequence[Sequence[int]], batches: Sequence[int], seed: int):
        kept = [(np.asarray(each, np.int64), batch) for each, batch in zip(members, batches) if len(each)]
        if not kept:
            raise UserError("no bucket holds a clip: zero batches; check data.path and the size policy")
        self.members, self.batches, self.seed = [each for each, _ in kept], [batch for _, batch in kept], seed
        self._rates = np.array([len(each) / batch for each, batch in kept])  # batches an epoch
        self._epoch: tuple[int, np.ndarray] | None = None

    def _before(self, epoch: int) -> np.ndarray:
        return np.floor(epoch * self._rates + 1e-9).astype(np.int64)

    def _order(self, epoch: int) -> np.ndarray:
        """`[batches of the epoch, 2]`: bucket and number within its stream."""
        held = self._epoch  # read once: threads that read ahead may be in two epochs at a time
        if held is None or held[0] != epoch:
            before, after = self._before(epoch), self._before(epoch + 1)
            buckets = np.random.default_rng([self.seed, 1, epoch]).permutation(np.repeat(np.arange(len(before)), after - before))
            numbers = np.empty_like(buckets)
            for bucket, first in enumerate(
                before
            ):  # a stream's own batches keep their order, or a clip could come twice before another came
                numbers[buckets == bucket] = np.arange(first, after[bucket])
            shuffled = np.stack([buckets, numbers], axis=-1)
            self._epoch = held = epoch, shuffled
        return held[1]

    def batch(self, n: int) -> np.ndarray:
        """`int64 [clips of a batch]`: the clips of batch n, all of one bucket."""
        epoch = int(n / self._rates.sum())
        while self._before(epoch).sum() > n:
            epoch -= 1
        while self._before(epoch + 1).sum() <= n:
            epoch += 1
        bucket, number = self._order(epoch)[n - self._before(epoch).sum()]
        members, size = self.members[bucket], self.batches[bucket]
        places = np.arange(number * size, (number + 1) * size)
        turns, inside = np.divmod(places, len(members))
        orders = {turn: np.random.default_rng([self.seed, 2, bucket, turn]).permutation(len(members)) for turn in set(turns.tolist())}
        return members[[orders[turn][i] for turn, i in zip(turns.tolist(), inside)]]

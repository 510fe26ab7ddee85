"""Buckets: clips of one shape meet in a batch, because convolutions want equal shapes.

The order of batches is a pure function of (seed, batch number), so a resume needs one integer and hosts cannot disagree.
"""

from collections.abc import Sequence

import numpy as np

from videodit.core.errors import UserError


def distortion(height: float, width: float, bucket: tuple[int, int]) -> float:
    """How badly a size suits a bucket: log of the aspect ratios' quotient plus a tenth of the areas', both absolute."""
    aspect = abs(np.log((height / width) / (bucket[0] / bucket[1])))
    area = abs(np.log((height * width) / (bucket[0] * bucket[1])))
    return aspect + 0.1 * area


def choose_buckets(sizes: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """At most `limit` (height, width) out of `sizes` that suit all of them best, chosen greedily; repeats in `sizes` are weights."""
    unique, weights = np.unique(np.asarray(sizes, np.int64).reshape(-1, 2), axis=0, return_counts=True)
    if not len(unique):
        raise UserError("there are no clips to make buckets of: prepare a data set with at least one readable clip")
    cost = np.array([[distortion(h, w, tuple(bucket)) for bucket in unique] for h, w in unique]) * weights[:, None]
    chosen: list[int] = []
    best = np.full(len(unique), np.inf)
    while len(chosen) < min(limit, len(unique)):
        totals = np.minimum(best[:, None], cost).sum(axis=0)
        totals[chosen] = np.inf
        chosen.append(int(totals.argmin()))
        best = np.minimum(best, cost[:, chosen[-1]])
    return [tuple(int(side) for side in unique[i]) for i in chosen]


def nearest_bucket(height: int, width: int, buckets: Sequence[tuple[int, int]]) -> int:
    """The number of the bucket that suits a size best."""
    return int(np.argmin([distortion(height, width, bucket) for bucket in buckets]))


class BucketSchedule:
    """Which clips make up batch n: `members[b]` are the clips of bucket b, `batch_size` the clips of a batch.

    Each bucket is a stream of its own, shuffled anew each epoch, in which every clip comes once before any comes twice; batches
    are taken from the streams in proportion to their sizes, in shuffled order.
    """

    def __init__(self, members: Sequence[Sequence[int]], batch_size: int, seed: int):
        self.members = [np.asarray(each, np.int64) for each in members if len(each)]
        if not self.members:
            raise UserError("no bucket holds a clip: zero batches; check data.path and the size policy")
        self.batch_size, self.seed = batch_size, seed
        self._rates = np.array([len(each) / batch_size for each in self.members])  # batches an epoch
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
        """`int64 [batch_size]`: the clips of batch n, all of one bucket."""
        epoch = int(n / self._rates.sum())
        while self._before(epoch).sum() > n:
            epoch -= 1
        while self._before(epoch + 1).sum() <= n:
            epoch += 1
        bucket, number = self._order(epoch)[n - self._before(epoch).sum()]
        members = self.members[bucket]
        places = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        turns, inside = np.divmod(places, len(members))
        orders = {turn: np.random.default_rng([self.seed, 2, bucket, turn]).permutation(len(members)) for turn in set(turns.tolist())}
        return members[[orders[turn][i] for turn, i in zip(turns.tolist(), inside)]]

"""Buckets: clips of one shape meet in a batch, because convolutions want equal shapes.

The order of batches is a pure function of (seed, batch number), so a resume needs one integer and hosts cannot disagree.
"""

from collections.abc import Callable, Sequence

import numpy as np

from videodit.core.errors import UserError

Size = tuple[int, int, int]  # frames, height, width


def distortion(size: Size, bucket: Size) -> float:
    """How badly a size suits a bucket: the aspect ratios' quotient, and a tenth of the areas' and the lengths', as absolute logs.

    Infinite where the bucket is shorter: a clip holds its last frame, and never loses one.
    """
    aspect = abs(np.log((size[1] / size[2]) / (bucket[1] / bucket[2])))
    area = abs(np.log((size[1] * size[2]) / (bucket[1] * bucket[2])))
    return aspect + 0.1 * area + (0.1 * np.log(bucket[0] / size[0]) if bucket[0] >= size[0] else np.inf)


def choose_buckets(sizes: Sequence[Size], limit: int) -> list[Size]:
    """At most `limit` (frames, height, width) out of `sizes` that suit all of them best, chosen greedily; repeats in `sizes` are weights.

    The first is as long as the longest.
    """
    unique, weights = np.unique(np.asarray(sizes, np.int64).reshape(-1, 3), axis=0, return_counts=True)
    if not len(unique):
        raise UserError("there are no clips to make buckets of: prepare a data set with at least one readable clip")
    if limit < 1:
        raise UserError(f"max_buckets is {limit}: zero batches; expected 1 or more")
    cost = np.array([[distortion(size, bucket) for bucket in unique] for size in unique.tolist()]) * weights[:, None]
    chosen: list[int] = []
    best = np.full(len(unique), np.inf)
    while len(chosen) < min(limit, len(unique)):
        totals = np.minimum(best[:, None], cost).sum(axis=0)
        totals[chosen] = np.inf
        chosen.append(int(totals.argmin()))
        best = np.minimum(best, cost[:, chosen[-1]])
    return [tuple(int(side) for side in unique[i]) for i in chosen]


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> int:
    """The number of the bucket that suits a size best."""
    return int(np.argmin([distortion(size, bucket) for bucket in buckets]))


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

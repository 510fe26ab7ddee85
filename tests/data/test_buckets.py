"""Buckets: every clip once before any twice, in an order that depends on the seed and the batch number alone."""

import collections
import concurrent.futures
import pickle

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.buckets import BucketSchedule, batch_sizes, choose_buckets, distortion, distortion_within, nearest_buckets

MEMBERS = [range(0, 10), range(10, 13), range(13, 33)]  # of unequal size, none a multiple of the batch
BATCH, BATCHES = 4, [4, 4, 4]


@pytest.fixture
def schedule():
    return BucketSchedule(MEMBERS, BATCHES, seed=5)


def bucket_of(clips):
    (bucket,) = {next(b for b, members in enumerate(MEMBERS) if clip in members) for clip in clips.tolist()}
    return bucket


def test_a_batch_is_of_one_bucket(schedule):
    for n in range(100):
        clips = schedule.batch(n)
        assert clips.shape == (BATCH,) and bucket_of(clips) in (0, 1, 2)


def test_every_clip_of_a_bucket_comes_once_before_any_comes_twice(schedule):
    streams = collections.defaultdict(list)
    for n in range(300):
        clips = schedule.batch(n)
        streams[bucket_of(clips)] += clips.tolist()
    for bucket, members in enumerate(MEMBERS):
        stream = streams[bucket]
        assert len(stream) > 3 * len(members)
        for start in range(0, len(stream) - len(members), len(members)):
            assert sorted(stream[start : start + len(members)]) == list(members)


def test_epochs_are_shuffled_anew(schedule):
    orders = []
    stream = [clip for n in range(100) for clip in schedule.batch(n).tolist() if clip < 10]
    for start in range(0, 30, 10):
        orders.append(tuple(stream[start : start + 10]))
    assert len(set(orders)) == 3


def test_buckets_come_in_proportion_to_their_clips(schedule):
    batches = collections.Counter(bucket_of(schedule.batch(n)) for n in range(3300))
    for bucket, members in enumerate(MEMBERS):
        assert batches[bucket] / 3300 == pytest.approx(len(members) / 33, rel=0.02)
    early = collections.Counter(bucket_of(schedule.batch(n)) for n in range(33))  # not one bucket after another
    assert set(early) == {0, 1, 2}


def test_a_batch_depends_on_its_number_alone(schedule):
    forward = [schedule.batch(n).tolist() for n in range(60)]
    again = pickle.loads(pickle.dumps(schedule))
    order = np.random.default_rng(0).permutation(60)
    assert [again.batch(int(n)).tolist() for n in order] == [forward[n] for n in order]
    assert [BucketSchedule(MEMBERS, BATCHES, seed=6).batch(n).tolist() for n in range(60)] != forward


def test_threads_that_read_ahead_into_the_next_epoch_get_the_same_batches(schedule):
    wanted = {n: schedule.batch(n).tolist() for n in range(400)}
    order = np.random.default_rng(0).integers(0, 400, 3000).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(found.tolist() == wanted[n] for n, found in zip(order, pool.map(schedule.batch, order)))


@pytest.mark.parametrize("members", [[[7]], [[7], [1, 2]], [[], [3]]])
def test_a_bucket_smaller_than_a_batch_is_repeated(members):
    schedule = BucketSchedule(members, [BATCH] * len(members), seed=0)
    counts = collections.Counter(clip for n in range(30) for clip in schedule.batch(n).tolist())
    assert set(counts) == {clip for each in members for clip in each}


def test_no_clip_at_all_is_an_error_that_says_so():
    with pytest.raises(UserError, match="no bucket holds a clip"):
        BucketSchedule([[], []], [BATCH, BATCH], seed=0)
    with pytest.raises(UserError, match="no clips to make buckets of"):
        choose_buckets([], 3)


def test_a_bucket_has_batches_of_its_own_size():
    schedule = BucketSchedule(MEMBERS, [2, 4, 6], seed=0)
    sizes = collections.defaultdict(set)
    for n in range(60):
        sizes[bucket_of(schedule.batch(n))].add(len(schedule.batch(n)))
    assert sizes == {0: {2}, 1: {4}, 2: {6}}


@pytest.mark.parametrize("seed", range(10))
def test_no_clip_waits_for_ever_in_a_rare_bucket(seed):
    random = np.random.default_rng(seed)
    counts, batches = random.integers(1, 60, 6), random.integers(1, 20, 6).tolist()
    members = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
    schedule = BucketSchedule(members, batches, seed)
    epoch = sum(count / batch for count, batch in zip(counts, batches))
    # The rarest: a bucket of one clip gives a batch every `batch` epochs.
    most = int(np.ceil((max(batches) + 1) * epoch)) + 1
    for start in (0, 5 * most):
        seen = {clip for n in range(start, start + most) for clip in schedule.batch(n).tolist()}
        assert len(seen) == counts.sum()


def test_where_there_are_few_sizes_each_is_a_bucket():
    sizes = [(9, 32, 48), (9, 48, 32), (1, 40, 40)]
    assert sorted(choose_buckets(sizes * 5, 4)) == sorted(sizes)


def test_buckets_are_of_the_data_sets_own_sizes_and_suit_the_most_clips():
    sizes = [(9, 32, 48)] * 50 + [(9, 48, 32)] * 40 + [(9, 32, 56)] * 3 + [(9, 40, 40)] * 2
    assert set(choose_buckets(sizes, 2)) == {(9, 32, 48), (9, 48, 32)}
    assert set(choose_buckets(sizes, 3)) < set(sizes)


def test_every_clip_has_a_bucket_as_long_as_it_is():
    sizes = [(1, 32, 48)] * 90 + [(5, 40, 40)] * 30 + [(17, 48, 32)]
    for limit in (1, 2, 3):
        buckets = choose_buckets(sizes, limit)
        assert len(buckets) == limit and max(bucket[0] for bucket in buckets) == 17
        for size, bucket in zip(sizes, nearest_buckets(sizes, buckets)):
            assert buckets[bucket][0] >= size[0]


def test_brought_to_few_sizes_no_clip_passes_the_token_budget():
    tokens = lambda size: size[0] * size[1] * size[2] // 64
    random = np.random.default_rng(0)
    sizes = [tuple(each) for each in (random.integers(1, 20, (300, 3)) * (1, 8, 8)).tolist()]
    most = max(map(tokens, sizes))
    sizes = [size for size in sizes if tokens(size) > most / 4]  # as a policy leaves them: long ones small, short ones large
    cost = distortion_within(most // 2, tokens)
    sizes = [size for size in sizes if tokens(size) <= most // 2]
    for limit in (1, 2, 8):
        buckets = choose_buckets(sizes, limit, cost)
        assert len(buckets) <= limit
        for (frames, _, _), bucket in zip(sizes, nearest_buckets(sizes, buckets, cost)):
            assert tokens((frames, *buckets[bucket][1:])) <= most // 2


def test_the_nearest_bucket_keeps_the_aspect_ratio_first():
    buckets = [(9, 32, 48), (9, 48, 32), (9, 40, 40), (1, 32, 48)]
    sizes = [(9, 64, 96), (9, 60, 41), (5, 16, 16), (1, 32, 48), (1, 48, 32)]
    assert nearest_buckets(sizes, buckets) == [0, 1, 2, 3, 1]
    assert distortion([(9, 32, 48)], [(9, 32, 48)]) == 0


def test_a_batch_of_small_clips_has_more_of_them_within_the_same_tokens():
    tokens = lambda size: size[0] * size[1] * size[2]
    buckets = [(9, 32, 48), (9, 32, 24), (1, 32, 48), (4, 32, 48)]
    assert batch_sizes(buckets, 3, tokens) == [3, 6, 27, 6]


def test_no_buckets_are_no_batches():
    with pytest.raises(UserError, match="at most 0 buckets are asked for: zero batches"):
        choose_buckets([(1, 8, 8)], 0)

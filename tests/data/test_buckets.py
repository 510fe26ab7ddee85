"""Buckets: every clip once before any twice, in an order that depends on the seed and the batch number alone."""

import collections
import concurrent.futures
import pickle

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.buckets import BucketSchedule, choose_buckets, distortion, nearest_bucket

MEMBERS = [range(0, 10), range(10, 13), range(13, 33)]  # of unequal size, none a multiple of the batch
BATCH = 4


@pytest.fixture
def schedule():
    return BucketSchedule(MEMBERS, BATCH, seed=5)


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
    assert [BucketSchedule(MEMBERS, BATCH, seed=6).batch(n).tolist() for n in range(60)] != forward


def test_threads_that_read_ahead_into_the_next_epoch_get_the_same_batches(schedule):
    wanted = {n: schedule.batch(n).tolist() for n in range(400)}
    order = np.random.default_rng(0).integers(0, 400, 3000).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(found.tolist() == wanted[n] for n, found in zip(order, pool.map(schedule.batch, order)))


@pytest.mark.parametrize("members", [[[7]], [[7], [1, 2]], [[], [3]]])
def test_a_bucket_smaller_than_a_batch_is_repeated(members):
    schedule = BucketSchedule(members, BATCH, seed=0)
    counts = collections.Counter(clip for n in range(30) for clip in schedule.batch(n).tolist())
    assert set(counts) == {clip for each in members for clip in each}


def test_no_clip_at_all_is_an_error_that_says_so():
    with pytest.raises(UserError, match="no bucket holds a clip"):
        BucketSchedule([[], []], BATCH, seed=0)
    with pytest.raises(UserError, match="no clips to make buckets of"):
        choose_buckets([], 3)


def test_where_there_are_few_sizes_each_is_a_bucket():
    sizes = [(32, 48), (48, 32), (40, 40)]
    assert sorted(choose_buckets(sizes * 5, 4)) == sorted(sizes)


def test_buckets_are_of_the_data_sets_own_sizes_and_suit_the_most_clips():
    sizes = [(32, 48)] * 50 + [(48, 32)] * 40 + [(32, 56)] * 3 + [(40, 40)] * 2
    assert set(choose_buckets(sizes, 2)) == {(32, 48), (48, 32)}
    assert set(choose_buckets(sizes, 3)) < set(sizes)


def test_the_nearest_bucket_keeps_the_aspect_ratio_first():
    buckets = [(32, 48), (48, 32), (40, 40)]
    assert [nearest_bucket(*size, buckets) for size in ((64, 96), (60, 41), (16, 16), (32, 48))] == [0, 1, 2, 0]
    assert distortion(32, 48, (32, 48)) == 0

"""Masks of what is known: each task gives what it says, of every clip something is left to make, and odds are as asked."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.known import EVERY_TASK, TASKS, KnownConfig, draw_known

SIZES = ((5, 3, 4), (1, 4, 4), (2, 3, 3), (3, 2, 2))  # frames, height, width
ROWS = 64


@pytest.fixture(scope="module")
def batch():
    """Rows of a video, an image and two more videos, after a word each."""
    row = [tokens_of(np.zeros((*size, 2), np.float32), [np.zeros((1, 1), np.int32)], (1, 1, 1)) for size in SIZES]
    return {name: jnp.asarray(value) for name, value in concatenate_rows([row] * ROWS, 128).items()}


def masks(batch, key=0, **config):
    """(size, task, mask of the clip's shape) of every clip."""
    given, task = draw_known(jax.random.key(key), batch["segment_ids"], batch["positions"], batch["extent"], KnownConfig(**config))
    ids, patch = np.asarray(batch["segment_ids"]), np.asarray(batch["modality"] == 2)
    for row in range(ROWS):
        for number, size in enumerate(SIZES, start=1):
            mine = (ids[row] == number) & patch[row]
            (name,) = {TASKS[each] for each in np.asarray(task)[row][mine]}
            yield size, name, np.asarray(given)[row][mine].reshape(size)


def whole_frames(mask):
    """Which frames are given; every frame is so or not."""
    assert (mask.all(axis=(1, 2)) == mask.any(axis=(1, 2))).all()
    return mask.any(axis=(1, 2)).tolist()


@pytest.mark.parametrize("task", TASKS[1:])
def test_something_is_always_left_to_make_and_images_are_given_regions_alone(batch, task):
    for size, name, mask in masks(batch, **{task: 1.0}):
        assert not mask.all()
        assert name == (task if size[0] > 1 or task == "region" else "generate")
        assert size[0] > 1 or task == "region" or not mask.any()


def test_the_first_frame(batch):
    for size, _, mask in masks(batch, first=1.0):
        assert whole_frames(mask) == [size[0] > 1, *[False] * (size[0] - 1)]


@pytest.mark.parametrize("task", ["forward", "backward", "between"])
def test_frames_at_the_ends_of_every_number_that_there_may_be(batch, task):
    seen = {size: set() for size in SIZES if size[0] > 1}
    for size, _, mask in masks(batch, **{task: 1.0}):
        if size[0] == 1:
            continue
        frames = whole_frames(mask)
        left, right = frames.index(False), frames[::-1].index(False)
        assert not any(frames[left : size[0] - right])  # one stretch is left to make
        seen[size].add((left, right))
    for (frames, *_), found in seen.items():
        ends = {
            "forward": {(k, 0) for k in range(1, frames)},
            "backward": {(0, k) for k in range(1, frames)},
            "between": {(i, j) for i in range(1, frames) for j in range(1, frames - i)} or {(1, 0)},
        }
        assert found == ends[task]


def test_frames_each_by_a_chance_of_its_own(batch):
    counts = [sum(whole_frames(mask)) for size, _, mask in masks(batch, frames=1.0) if size[0] == 5]
    assert set(counts) == {0, 1, 2, 3, 4}


def test_a_region_is_a_box_of_every_size_in_all_frames(batch):
    sizes = set()
    for size, _, mask in masks(batch, region=1.0):
        hole = ~mask
        assert (hole == hole[:1]).all()
        rows, columns = hole[0].any(axis=1), hole[0].any(axis=0)
        assert (hole[0] == rows[:, None] & columns).all()
        for line in (rows, columns):
            at = np.flatnonzero(line)
            assert len(at) == at[-1] - at[0] + 1
        if size == SIZES[0]:
            sizes.add((int(rows.sum()), int(columns.sum())))
    assert len(sizes) >= 10  # of 3 x 4


def test_odds_are_shares_of_videos_and_what_they_leave_is_given_nothing(batch):
    found = [(name, mask) for key in range(8) for size, name, mask in masks(batch, key, **dataclasses.asdict(EVERY_TASK)) if size[0] > 1]
    for task in TASKS:
        share = np.mean([name == task for name, _ in found])
        wanted = EVERY_TASK.odds.get(task, 1 - sum(EVERY_TASK.odds.values()))
        assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(found))
    assert not any(mask.any() for name, mask in found if name == "generate")
    assert not any(mask.any() for _, _, mask in masks(batch))


def test_masks_are_the_same_with_the_same_key_and_others_with_another(batch):
    drawn = [masks(batch, key, **dataclasses.asdict(EVERY_TASK)) for key in (0, 0, 1)]
    first, same, other = (np.concatenate([mask.ravel() for *_, mask in each]) for each in drawn)
    assert (first == same).all() and (first != other).any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"first": -0.1}, "first=-0.1: must be 0 or more"),
        ({"first": 0.7, "region": 0.4}, "add up to 1.1"),
        ({"noise": 1.0}, "less than 1"),
    ],
)
def test_a_wrong_setting_is_named(wrong, said):
    with pytest.raises(UserError, match=said):
        KnownConfig(**wrong)

"""The size policy never passes its budget, never scales up, keeps the aspect ratio, and loses no frames but a short
tail."""

import random

import pytest

from videodit.data import sizes
from videodit.data.sizes import SizePolicy


def cases(count=3000):
    draw = random.Random(0)
    for _ in range(count):
        grid = draw.choice([(4, 8, 8), (4, 16, 16), (8, 32, 32), (1, 8, 8)])
        policy = SizePolicy(
            fps=draw.choice([2.0, 8.0, 24.0, 29.97]),
            max_tokens=draw.choice([8, 75, 128, 1000, 30000]),
            max_frames=1 + grid[0] * draw.randrange(0, 20),
            grid=grid,
            min_side=draw.choice([8, 16, 64]),
        )
        clip = (
            draw.choice([1, draw.randrange(1, 2000)]),
            draw.randrange(1, 2200),
            draw.randrange(1, 2200),
            draw.uniform(1, 60),
        )
        yield clip, policy


def test_fit_stays_on_the_grid_and_in_the_budget():
    for clip, policy in cases():
        size = sizes.fit(*clip, policy)
        assert (size.frames - 1) % policy.grid[0] == 0 and size.frames <= policy.max_frames
        assert size.frames <= sizes.resampled_frames(clip[0], clip[3], policy)
        assert size.height % policy.grid[1] == 0 and size.width % policy.grid[2] == 0
        assert 0 < sizes.tokens(size, policy.grid) <= policy.max_tokens, (clip, policy, size)


def test_fit_never_scales_up_beyond_one_token():
    for (frames, height, width, fps), policy in cases():
        size = sizes.fit(frames, height, width, fps, policy)
        assert size.height <= max(height, policy.grid[1]) and size.width <= max(width, policy.grid[2])


def test_fit_keeps_the_aspect_ratio_to_less_than_one_token_a_side():
    for (frames, height, width, fps), policy in cases():
        size = sizes.fit(frames, height, width, fps, policy)
        rows, columns = size.height / policy.grid[1], size.width / policy.grid[2]
        if min(rows, columns) == 1:
            continue  # a strip as thin as one token
        # The clip's shape, scaled to some common factor, lies within a token of both sides.
        low = max((rows - 1) * policy.grid[1] / height, (columns - 1) * policy.grid[2] / width)
        high = min((rows + 1) * policy.grid[1] / height, (columns + 1) * policy.grid[2] / width)
        assert low < high, ((frames, height, width, fps), policy, size)


def test_fit_keeps_a_clip_that_is_within_the_budget_as_it_is():
    assert sizes.fit(9, 40, 40, 8.0, SizePolicy()) == (9, 40, 40)
    assert sizes.fit(1, 32, 48, 1.0, SizePolicy()) == (1, 32, 48)


def test_fit_fills_most_of_the_budget():
    policy = SizePolicy(max_tokens=1000, max_frames=33)
    for height, width in [(1080, 1920), (1920, 1080), (720, 720), (480, 853), (800, 332)]:
        assert sizes.tokens(sizes.fit(500, height, width, 30.0, policy), policy.grid) > 850


def test_fit_gives_up_frames_before_the_shorter_side_gets_too_small_but_keeps_motion():
    policy = SizePolicy(max_tokens=64, max_frames=17, min_side=32)
    small = sizes.fit(100, 360, 640, 30.0, policy)
    assert 1 < small.frames < 17 and min(small.height, small.width) >= 32
    assert sizes.fit(100, 64, 1280, 30.0, SizePolicy()).frames > 1


def test_windows_hold_every_frame_but_a_short_tail_and_share_few():
    for (frames, _, _, fps), policy in cases():
        total, step = sizes.resampled_frames(frames, fps, policy), policy.grid[0]
        found = [(round(start * policy.fps), count) for start, count in sizes.windows(frames, fps, policy)]
        assert found and all(1 <= count <= policy.max_frames and (count - 1) % step == 0 for _, count in found)
        assert all(0 <= first and first + count <= total for first, count in found)
        seen = [frame for first, count in found for frame in range(first, first + count)]
        if max(count for _, count in found) == 1 and policy.max_frames > 1:
            assert total <= step and found == [(0, 1)]  # too short to move
            continue
        assert set(seen) == set(range(max(seen) + 1)) and 2 * (total - 1 - max(seen)) < step
        # Only the last starts before the one before it ends.
        assert all(first + count == after for (first, count), (after, _) in zip(found[:-2], found[1:-1]))
        assert len(found) == 1 or found[-2][0] < found[-1][0]


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [(8, [(0, 1)]), (9, [(0, 9)]), (12, [(0, 9)]), (13, [(0, 9), (4, 9)]), (25, [(0, 17), (16, 9)]), (34, [(0, 17), (17, 17)])],
)
def test_the_last_window_ends_with_the_clip(frames, wanted):
    policy = SizePolicy(fps=8.0, max_frames=17, grid=(8, 8, 8))
    assert [(start * 8, count) for start, count in sizes.windows(frames, 8.0, policy)] == wanted


def test_windows_of_a_clip_whose_frames_were_given_up_are_shorter():
    assert [count for _, count in sizes.windows(30, 8.0, SizePolicy(), max_frames=9)] == [9, 9, 9, 5]


def test_a_still_is_one_frame():
    policy = SizePolicy()
    assert sizes.windows(1, 1.0, policy) == [(0.0, 1)]
    assert sizes.fit(1, 512, 512, 1.0, policy).frames == 1


@pytest.mark.parametrize("wrong", [{"max_frames": 16}, {"fps": 0.0}, {"grid": (4, 0, 8)}, {"max_tokens": 0}])
def test_a_policy_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SizePolicy(**wrong)

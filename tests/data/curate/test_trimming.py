"""Black and still ends are left off; what shows something stays."""

import numpy as np
import pytest

from videodit.data.curate.trimming import trim


def ends(black, still, moving, still_after, black_after, seconds=1.0, rate=10):
    lit = np.array([0.0] * black + [0.9] * (still + moving + still_after) + [0.0] * black_after)
    changed = np.array(
        [0.0] * black + [0.5] + [0.0] * (still - 1) + [0.2] * moving + [0.0] * still_after + [0.9] + [0.0] * (black_after - 1)
    )
    return trim(lit, changed[: len(lit)], np.arange(len(lit)) / rate, seconds)


def test_black_ends_of_any_length_go():
    assert ends(3, 1, 20, 0, 1) == (3, 24)


def test_still_ends_go_but_for_the_frame_beside_the_motion():
    assert ends(0, 15, 20, 12, 0) == (14, 35)


def test_a_short_rest_stays():
    assert ends(0, 9, 20, 8, 0) == (0, 37)


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_still_shot_stays_whole_and_a_black_one_goes(frames):
    times, none = np.arange(frames) / 10, np.zeros(frames)
    assert trim(np.ones(frames), none, times, 1.0) == (0, frames)
    assert trim(none, none, times, 1.0) == (0, 0)


def test_a_rest_between_two_motions_stays():
    lit, changed = np.ones(60), np.zeros(60)
    changed[1:10], changed[50:] = 0.2, 0.2
    assert trim(lit, changed, np.arange(60) / 10, 1.0) == (0, 60)

"""Measures rank clips as an eye would, whatever their rate and size, and limits say what they did."""

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import media
from videodit.data.curate import CurateConfig, examine
from videodit.data.curate.measures import motion, reject, sharpness

PASSING = {"motion": 40.0, "sharpness": 90.0, "brightness": 100.0, "hash": "0" * 16}


def measured(source, **config):
    (found,) = examine(source, CurateConfig(shots=False, **config)).candidates
    return found


def test_blur_lowers_sharpness():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(float)
    blurred = (picture[1:] + picture[:-1]) / 2
    assert sharpness(np.full((9, 9), 100)) == 0 and sharpness(blurred) < 0.8 * sharpness(picture)


def test_motion_is_a_second_and_not_a_frame():
    changes = np.array([99.0, 2, 2, 2, 2])
    assert motion(changes, np.arange(5) / 10) == pytest.approx(20)
    assert motion(changes, np.arange(5) / 5) == pytest.approx(10)


def test_a_frozen_clip_moves_least_and_a_blurred_one_is_least_sharp(clips):
    frozen = measured(clips / "awkward/static_still_coffee.mp4").measures
    moving = measured(clips / "clips/carpenter_bee_1280x720.mp4").measures
    assert frozen["motion"] < 1 < 50 < moving["motion"]
    small = media.decode(clips / "clips/carpenter_bee_1280x720.mp4", frames=12, size=(36, 64))
    blurred = np.stack([np.asarray(media.Image.fromarray(each).resize((640, 360))) for each in small])
    assert measured(media.encode_video(blurred, 24.0)).measures["sharpness"] < 0.2 * moving["sharpness"]


def test_a_still_has_no_motion_and_no_limit_on_it():
    still = media.encode_image(np.full((20, 30, 3), 140, np.uint8))
    found = measured(still, min_motion=5.0)
    assert "motion" not in found.measures and found.reason is None and found.measures["brightness"] == pytest.approx(140)


@pytest.mark.parametrize(
    "limit,reason",
    [
        ({"min_motion": 41.0}, "motion 40 is below data.curate.min_motion 41"),
        ({"max_motion": 39.5}, "motion 40 is above data.curate.max_motion 39.5"),
        ({"min_sharpness": 100.0}, "sharpness 90 is below data.curate.min_sharpness 100"),
        ({"min_brightness": 120.0}, "brightness 100 is below data.curate.min_brightness 120"),
        ({"max_brightness": 99.0}, "brightness 100 is above data.curate.max_brightness 99"),
        ({"min_frames": 9}, "frames 8 are below data.curate.min_frames 9"),
    ],
)
def test_a_limit_says_measure_value_and_limit(limit, reason):
    assert reject(PASSING, 8, CurateConfig(**limit)) == reason
    assert reject(PASSING, 8, CurateConfig()) is None


@pytest.mark.parametrize(
    "wrong", [{"min_frames": 0}, {"still_end_s": 0.0}, {"near_duplicate_bits": 40}, {"min_motion": 5.0, "max_motion": 1.0}]
)
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match="data.curate"):
        CurateConfig(**wrong)

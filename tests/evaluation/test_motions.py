"""Positions, speeds and steps are read rightly from true renders, whose state is known."""

import numpy as np
import pytest

from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.evaluation import motions


@pytest.fixture(scope="module")
def scenes():
    config = WorldsConfig(seed=2, count=40, sizes=((40, 64),), frames=(17,), shapes=("ball", "cube"), motions=("slides",), camera_odds=0.0)
    return [WorldsSource(config)[index] for index in range(8)]


def test_a_solid_is_found_where_it_is(scenes):
    for scene in scenes:
        (solid,) = scene["state"]["solids"][:1]
        path = motions.path_of(scene["frames"], solid["colour"])
        whole = np.array(solid["visible"]) > 0.99
        true = (np.array(solid["centre"]) - (32, 20)) / 40
        assert np.abs(path[whole, :2] - true[whole]).max() < 0.15  # the shadow and a face in the dark move it a little


def test_equal_paths_have_no_error_and_a_still_one_has_the_speed_as_error(scenes):
    for scene in scenes:
        path = motions.path_of(scene["frames"], scene["state"]["solids"][0]["colour"])
        assert motions.position_error(path, path) == 0 and motions.speed_error(path, path, 8.0) == 0
        assert motions.direction_error(path, path, 8.0) == pytest.approx(0, abs=1e-3)
        still = path[:1].repeat(len(path), axis=0)
        assert motions.speed_error(still, path, 8.0) == pytest.approx(np.linalg.norm(motions.velocity(path, 8.0)))
        assert motions.direction_error(still, path, 8.0) == 90
        assert motions.direction_error(path[::-1], path, 8.0) == pytest.approx(180, abs=1e-3)


def test_what_is_not_seen_counts_as_lost(scenes):
    path = motions.path_of(scenes[0]["frames"], scenes[0]["state"]["solids"][0]["colour"])
    nothing = motions.path_of(np.full((17, 40, 64, 3), 127, np.uint8), "red")
    assert np.isnan(nothing).all() and motions.position_error(nothing, path) == motions.LOST and not motions.velocity(nothing, 8.0).any()


def test_steps_and_seams():
    ramp = np.broadcast_to(np.array([0, 2, 4, 6], np.uint8)[:, None, None, None], (4, 8, 8, 3))
    assert motions.steps(ramp).tolist() == [2, 2, 2] and motions.seam(ramp) == 3 and motions.seam(ramp[[0, 1, 0]]) == 0


def test_shares_of_colour(scenes):
    frames, colour = scenes[0]["frames"], scenes[0]["state"]["solids"][0]["colour"]
    other = "red" if colour != "red" else "blue"
    assert motions.share_of_colour(frames, colour, other) == 1 and motions.share_of_colour(frames, other, colour) == 0

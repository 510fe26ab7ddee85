"""The worlds' promises: they depend on nothing but config and number, and captions and state are true of the pixels."""

import json
import re

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import worlds
from videodit.data.worlds.combinations import combinations
from videodit.data.worlds.scene import COLOURS, DIRECTIONS, MOTIONS
from videodit.data.worlds.shapes import SHAPES

MANY = worlds.WorldsConfig(seed=7, count=60, camera_odds=0.5)


@pytest.fixture(scope="module")
def rendered():
    source = worlds.WorldsSource(MANY)
    return [source[index] for index in range(len(source))]


def test_a_clip_depends_only_on_config_and_number(rendered):
    again = worlds.WorldsSource(worlds.WorldsConfig(seed=7, count=60, camera_odds=0.5))
    for index in (41, 3, 17):
        clip = again[index]
        assert np.array_equal(clip["frames"], rendered[index]["frames"])
        assert (clip["key"], clip["captions"], clip["state"]) == tuple(rendered[index][k] for k in ("key", "captions", "state"))
    other = worlds.WorldsSource(worlds.WorldsConfig(seed=8, count=60, camera_odds=0.5))
    assert any(other[k]["captions"] != rendered[k]["captions"] for k in range(5))


def test_clips_have_the_sizes_and_lengths_that_were_asked(rendered):
    shapes = {clip["frames"].shape for clip in rendered}
    assert {shape[0] for shape in shapes} == {1, 5, 9, 17}
    assert {shape[1:3] for shape in shapes} == {(32, 48), (48, 32), (40, 40)}
    assert all(clip["frames"].dtype == np.uint8 and clip["frames"].shape[3] == 3 for clip in rendered)


def test_state_is_json_and_boxes_hold_the_coloured_pixels(rendered):
    for clip in rendered:
        solid = json.loads(json.dumps(clip["state"]))["solids"][0]
        for t, frame in enumerate(clip["frames"].astype(int)):
            coloured = frame.max(-1) - frame.min(-1) > 70
            ys, xs = np.where(coloured)
            if len(ys) and solid["box"][t]:
                left, top, right, bottom = solid["box"][t]
                assert left <= xs.min() and top <= ys.min() and xs.max() < right and ys.max() < bottom
        assert solid["visible"][0] > 0.9


def test_the_colour_that_is_named_is_the_colour_that_is_seen(rendered):
    for clip in rendered:
        frame = clip["frames"][0].astype(float) / 255
        strong = frame[frame.max(-1) - frame.min(-1) > 0.3]
        likeness = {name: (strong @ np.array(rgb)).sum() / np.linalg.norm(rgb) for name, rgb in COLOURS.items()}
        assert max(likeness, key=likeness.get) == clip["state"]["solids"][0]["colour"]


def test_motion_goes_where_the_caption_says():
    config = worlds.WorldsConfig(seed=11, count=80, frames=(9,), sizes=((40, 40),), camera_odds=0.0, motions=("slides", "rolls", "bounces"))
    for clip in map(worlds.WorldsSource(config).__getitem__, range(40)):
        solid = clip["state"]["solids"][0]
        first, last = np.array(solid["position"][0]), np.array(solid["position"][-1])
        heading = DIRECTIONS[solid["direction"]]
        assert (last - first)[0] * heading[0] + (last - first)[2] * heading[1] > 0.25
        assert clip["captions"]["original"].endswith(f'{solid["motion"]} {solid["direction"]}')
        across = solid["centre"][-1][0] - solid["centre"][0][0]
        if heading[0]:
            assert across * heading[0] > 0.2 * 40


def test_an_image_is_described_without_motion(rendered):
    for clip in rendered:
        if len(clip["frames"]) == 1:
            assert re.fullmatch(r"an? [a-z]+ [a-z]+", clip["captions"]["original"])
            assert "slide" not in clip["captions"]["descriptive"] and "camera" not in clip["captions"]["descriptive"]


def test_a_short_clip_is_not_said_to_show_what_comes_later():
    motion = worlds.Motion(kind="stops", direction="left", start=(0.2, 0.0), speed=0.4, event=0.5)
    scene = worlds.Scene(solids=(worlds.Solid(shape="cube", colour="red", size="big", half=0.2, yaw=0.6, motion=motion),))
    assert worlds.describe(scene, frames=5, fps=8.0)["original"] == "a red cube slides left"
    assert worlds.describe(scene, frames=9, fps=8.0)["original"] == "a red cube slides left then stops"
    assert worlds.trace(scene, 5, 32, 32, 8.0)["solids"][0]["motion"] == "slides"


def test_rendering_follows_time_and_not_the_number_of_frames():
    scene = worlds.sample_scene(MANY, 5)
    few = worlds.render(scene, frames=5, height=32, width=48, fps=8.0)
    many = worlds.render(scene, frames=9, height=32, width=48, fps=16.0)
    assert np.array_equal(few, many[::2])


def test_a_large_picture_is_the_small_one_in_more_detail():
    scene = worlds.sample_scene(MANY, 6)
    small = worlds.render(scene, frames=1, height=32, width=48, fps=8.0)[0].astype(float)
    large = worlds.render(scene, frames=1, height=256, width=384, fps=8.0)[0].astype(float)
    assert np.abs(large.reshape(32, 8, 48, 8, 3).mean((1, 3)) - small).mean() < 2.0


@pytest.mark.parametrize("size", [(16, 16), (90, 20), (33, 127)])
def test_any_size_and_aspect_renders(size):
    frames = worlds.render(worlds.sample_scene(MANY, 9), frames=2, height=size[0], width=size[1], fps=30.0)
    assert frames.shape == (2, *size, 3)


def test_train_never_shows_what_is_held_out_and_held_out_shows_nothing_else():
    for split, wanted in (("train", False), ("held_out", True)):
        config = worlds.WorldsConfig(seed=3, count=300, split=split, solids=(1, 2), frames=(1, 5, 9), camera_odds=0.0)
        for index in range(300):
            scene, frames = worlds.sample_scene(config, index), worlds.clip_shape(config, index)[0]
            for solid in scene.solids:
                assert worlds.held_out(solid.shape, solid.colour, solid.motion.kind, solid.motion.direction) == wanted
                shown = worlds.trace(scene, frames, 16, 16, 8.0)["solids"] if index < 25 else []
                for each in shown:
                    if frames > 1 and not wanted:
                        assert not worlds.held_out(each["shape"], each["colour"], each["motion"], each["direction"])


def test_held_out_is_a_tenth_and_a_larger_share_keeps_the_smaller():
    every = combinations(SHAPES, tuple(COLOURS), MOTIONS, tuple(DIRECTIONS))
    tenth = {each for each in every if worlds.held_out(*each)}
    assert 0.07 < len(tenth) / len(every) < 0.13
    assert tenth < {each for each in every if worlds.held_out(*each, share=0.3)}


def test_prompts_ask_for_every_held_out_combination_once_and_read_like_captions():
    asked = worlds.prompts(worlds.WorldsConfig())
    assert all(worlds.held_out(each["shape"], each["colour"], each["motion"], each["direction"]) for each in asked)
    assert len({each["prompt"] for each in asked}) == len(asked) > 50
    source = worlds.WorldsSource(worlds.WorldsConfig(seed=2, count=200, frames=(9,), split="held_out"))
    shown = {source[index]["captions"]["original"] for index in range(60)}
    assert shown & {each["prompt"] for each in asked}


def test_several_solids_differ_in_colour_and_never_meet():
    config = worlds.WorldsConfig(seed=5, count=30, solids=(2, 3), frames=(9,))
    for index in range(30):
        solids = worlds.sample_scene(config, index).solids
        assert len({solid.colour for solid in solids}) == len(solids) >= 2


def test_a_solid_behind_another_is_hidden_and_the_state_says_by_which():
    def ball(colour, z):
        motion = worlds.Motion(kind="stays still", start=(0.0, z))
        return worlds.Solid(shape="ball", colour=colour, size="big", half=0.2, yaw=0.0, motion=motion)

    scene = worlds.Scene(solids=(ball("red", 0.45), ball("blue", -0.2)))
    back, front = worlds.trace(scene, 1, 64, 64, 8.0)["solids"]
    assert back["hidden_by"] == [[1]] and back["visible"][0] < 0.7
    assert front["hidden_by"] == [[]] and front["visible"][0] == 1.0


@pytest.mark.parametrize("wrong, right", [
    ({"colours": ("gren",)}, "green"), ({"shapes": ("cub",)}, "cube"), ({"cameras": ("pan lft",)}, "pan left"),
    ({"frames": (8,)}, "9"), ({"sizes": ((8, 40),)}, "at least 16"), ({"camera_odds": 1.5}, "1"), ({"solids": (2, 9)}, "3"),
    ({"split": "test"}, "train"), ({"motions": ()}, "at least one"), ({"motions": ("turns",)}, "add 'slides'"),
    ({"held_out_share": 0.0, "split": "held_out"}, "held_out_share"),
])
def test_a_wrong_config_is_told_the_right_value(wrong, right):
    with pytest.raises(UserError, match=right):
        worlds.WorldsConfig(**wrong)


@pytest.mark.parametrize("move", ["pan left", "pan right", "orbit left", "orbit right", "zoom in", "zoom out"])
def test_the_camera_moves_as_it_is_named(move):
    still = worlds.Motion(kind="stays still")
    scene = worlds.Scene(solids=(worlds.Solid(shape="ball", colour="red", size="big", half=0.2, yaw=0.0, motion=still),),
                         camera=worlds.Camera(move=move, rate=0.2))
    state = worlds.trace(scene, 9, 64, 64, 8.0)
    (x0, _), (x1, _) = state["solids"][0]["centre"][0], state["solids"][0]["centre"][-1]
    went = np.array(state["camera"]["position"][-1]) - np.array(state["camera"]["position"][0])
    boxes = state["solids"][0]["box"]
    if move.startswith("pan"):  # what is looked at moves the other way, and the camera stays where it is
        assert (x1 - x0) * (1 if move == "pan left" else -1) > 5 and np.allclose(went, 0)
    elif move.startswith("orbit"):
        assert went[0] * (-1 if move == "orbit left" else 1) > 0.2 and abs(x1 - x0) < 1
    else:
        grown = (boxes[-1][2] - boxes[-1][0]) / (boxes[0][2] - boxes[0][0])
        assert (grown > 1.1) == (move == "zoom in") and (grown < 0.9) == (move == "zoom out")
    kind, way = move.split()
    assert worlds.describe(scene)["original"] == f"a red ball stays still while the camera {kind}s {way}"

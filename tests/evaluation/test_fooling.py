"""Clips made to fool the judge are judged wrong, and true renders of the same prompts are judged right, damaged ones too."""

import dataclasses
import io

import numpy as np
from PIL import Image
import pytest

from experiments.local import get_config
from videodit.data.worlds import prompts
from videodit.evaluation.judge import judge, right, steady
from videodit.evaluation.judge.damage import damaged
from videodit.evaluation.judge.fooling import FOOLS, Asked, scene_for
from videodit.training.config import read_experiment

SEED = 3_000_000  # limits were set on scenes of other seeds
CONFIG = read_experiment(get_config())
PROMPTS = prompts(CONFIG.data.worlds)


def asked(number):
    size, frames = CONFIG.sample.sizes[number % 5], 17 if number % 4 == 3 else 9
    return Asked(scene=scene_for(CONFIG.data.worlds, PROMPTS[number % len(PROMPTS)], SEED + number), size=size, frames=frames, fps=8.0)


def whole(clip, number):
    return right(judge(clip, 8.0), PROMPTS[number % len(PROMPTS)], len(clip))["whole"]


def jpeg(clip):
    def through(frame):
        store = io.BytesIO()
        Image.fromarray(frame).save(store, "JPEG", quality=50)
        return np.array(Image.open(store))

    return np.stack([through(frame) for frame in clip])


DAMAGES = {"none": lambda clip: clip, "blur and noise": lambda clip: damaged(clip, sigma=1.0, noise=0.03, seed=1), "jpeg": jpeg}


@pytest.mark.parametrize("damage", DAMAGES)
def test_true_renders_are_wholly_right(damage):
    good = [whole(DAMAGES[damage](asked(number).render()), number) for number in range(100)]
    assert np.mean(good) >= 0.97


@pytest.mark.parametrize("name", FOOLS)
def test_a_fooling_clip_is_never_wholly_right(name):
    for number in range(0, 110, 9):
        each = asked(number)
        clip = FOOLS[name](each)
        assert clip.dtype == np.uint8 and clip.shape == (each.frames, *each.size, 3)
        assert not whole(clip, number), PROMPTS[number]["prompt"]


@pytest.mark.parametrize("name, facts", [
    ("two copies", {"alone"}), ("another enters", {"alone"}), ("eight discs", {"alone"}), ("torn in two", {"alone"}),
    ("vanishes", {"steady"}), ("teleports", {"steady"}), ("turns back", {"steady"}), ("every way in turn", {"steady"}),
    ("changes colour", {"alone"}), ("moves otherwise", {"motion"}),
])  # fmt: skip
def test_what_is_wrong_is_told(name, facts):
    number = next(k for k, each in enumerate(PROMPTS) if (each["motion"], each["direction"]) == ("slides", "left"))
    found = right(judge(FOOLS[name](asked(number)), 8.0), PROMPTS[number], asked(number).frames)
    assert facts <= {fact for fact, good in found.items() if not good}


@pytest.mark.parametrize("name, fault", [
    ("teleports", steady.LEAPS), ("vanishes", steady.SIZE), ("changes shape", steady.SHAPE), ("turns back", steady.COURSE),
    ("two copies", steady.PIECES),
])  # fmt: skip
def test_faults_are_seen_by_name_and_true_renders_have_none(name, fault):
    for number in (k for k, each in enumerate(PROMPTS) if each["motion"] == "slides" and each["direction"] in ("left", "right")):
        assert fault in judge(FOOLS[name](asked(number)), 8.0).faults, PROMPTS[number]["prompt"]
        assert not judge(asked(number).render(), 8.0).faults


def test_clips_of_two_thirds_of_a_second_keep_their_course_or_do_not():
    """The main job's shortest: 9 frames at 12 a second."""
    for number, each in enumerate(PROMPTS[:40]):
        short = dataclasses.replace(asked(number), frames=9, fps=12.0)
        seen = {name: right(judge(FOOLS[name](short), 12.0), each, 9) for name in ("turns back", "every way in turn")}
        assert not any(found["whole"] for found in seen.values()), each["prompt"]
        assert right(judge(short.render(), 12.0), each, 9)["whole"], each["prompt"]


def test_a_hop_is_told_from_a_slide():
    for number, each in enumerate(PROMPTS[:60]):
        found = right(judge(asked(number).render(), 8.0), each, asked(number).frames)
        other = right(judge(asked(number).render(), 8.0), each | {"motion": "slides" if each["motion"] == "bounces" else "bounces"}, 9)
        assert found["hops"] and not other["hops"]


def test_prompts_are_many_and_training_keeps_every_shape_colour_and_way_to_move():
    from videodit.data.worlds.config import choices

    kept = [each for motion in choices(CONFIG.data.worlds).values() for each in motion]
    assert len({each["prompt"] for each in PROMPTS}) >= 100 and CONFIG.evaluate.prompts == 400
    assert len({each[0] for each in kept}) == 4 and len({each[1] for each in kept}) == 8 and len({each[2:] for each in kept}) == 13
    assert not {tuple(each[key] for key in ("shape", "colour", "motion", "direction")) for each in PROMPTS} & set(kept)

"""The two-sample test tells planted artefacts from clean clips, and clean clips from clean ones no better than a coin."""

import functools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from videodit.data.worlds import WorldsConfig
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import clip_shape, sample_scene
from videodit.evaluation.two_sample import describe, two_sample_test, wilson

STRIDE = (8, 8, 8)
WORLDS = WorldsConfig(
    seed=3, count=400, sizes=((24, 32), (32, 24)), frames=(9,), shapes=("ball", "cube"), motions=("slides", "rolls"), camera_odds=0.0
)


@functools.cache
def halves():
    clips = []
    for i in range(140):
        frames, height, width = clip_shape(WORLDS, i)
        clips.append(render(sample_scene(WORLDS, i), frames=frames, height=height, width=width, fps=8.0))
    return clips[::2], clips[1::2]


@functools.cache
def clean():
    return describe(halves(), STRIDE)


def rounded(clip):
    return np.clip(np.round(clip), 0, 255).astype(np.uint8)


def seamed(clip, rng):
    offsets = rng.choice([-8.0, 8.0], (1, clip.shape[1] // 8, clip.shape[2] // 8, 1))
    return rounded(clip + offsets.repeat(8, 1).repeat(8, 2))


def blurred(clip, rng):
    return rounded(gaussian_filter(clip.astype(float), (0, 0.6, 0.6, 0)))


def noisy(clip, rng):
    return rounded(clip + rng.normal(0, 1, clip.shape))


def stuttering(clip, rng):
    clip, t = clip.copy(), rng.integers(1, len(clip))
    clip[t] = clip[t - 1]
    return clip


def test_clean_from_clean_is_a_coin():
    sets = clean()
    found = [two_sample_test(*sets, seed=seed) for seed in range(4)]
    assert np.mean([each["accuracy"] for each in found]) == pytest.approx(0.5, abs=0.09)
    assert found[0]["low"] < 0.5 < found[0]["high"]


@pytest.mark.parametrize("planted", [seamed, blurred, noisy, stuttering])
def test_what_is_planted_is_told(planted):
    a, b = halves()
    rng = np.random.default_rng(0)
    found = two_sample_test(*describe([[planted(clip, rng) for clip in a], b], STRIDE))
    assert found["accuracy"] > 0.95 and found["low"] > 0.9


def test_shape_and_number_tell_nothing():
    a, b = halves()
    wide = [clip for clip in a if clip.shape[2] == 32]
    few = two_sample_test(*describe([wide, b], STRIDE))
    assert few["clips"] == min(len(wide), sum(clip.shape[2] == 32 for clip in b))
    assert few["low"] < 0.5 < few["high"]


def test_a_scene_on_both_sides_cannot_give_itself_away():
    a, _ = halves()
    # Each scene is its own twin: held out alone, it would be told to be of the other side every time.
    found = two_sample_test(*describe([a, [rounded(clip + np.float32(0)) for clip in a]], STRIDE))
    assert found["accuracy"] == 0.5


def test_the_same_clips_give_the_same_figures_and_few_give_none():
    a, b = halves()
    first, second = (two_sample_test(*describe([a[:20], b[:20]], STRIDE), seed=1) for _ in range(2))
    assert first == second
    assert two_sample_test(*describe([a[:9], b[:9]], STRIDE)) is None


def test_images_have_no_changes_to_tell():
    a, b = halves()
    found = two_sample_test(*describe([[clip[:1] for clip in a], [noisy(clip[:1], np.random.default_rng(0)) for clip in b]], STRIDE))
    assert found["by_frames"] == {"1": found["accuracy"]} and found["accuracy"] > 0.9


def test_the_interval_is_wilsons():
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson(500, 500)[1] == 1 and wilson(0, 500)[0] == 0

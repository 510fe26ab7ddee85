"""Each measure of the picture sees what is planted for it, beside true renders that have none of it."""

import functools
import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from videodit.data.worlds import WorldsConfig
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import clip_shape, sample_scene
from videodit.evaluation.constancy import constancy, course
from videodit.evaluation.measures import picture_measures
from videodit.evaluation.sharpness import edge_sharpness, edge_width, gradient_percentiles
from videodit.evaluation.steadiness import background, background_change

WORLDS = WorldsConfig(
    seed=5, count=400, sizes=((32, 48), (40, 40)), frames=(9,), shapes=("ball", "cube"), motions=("slides", "stays still"), camera_odds=0.0
)


@functools.cache
def clips():
    made = []
    for i in range(24):
        frames, height, width = clip_shape(WORLDS, i)
        made.append(render(sample_scene(WORLDS, i), frames=frames, height=height, width=width, fps=8.0))
    return made


def rounded(clip):
    return np.clip(np.round(clip), 0, 255).astype(np.uint8)


def blurred(clip, sigma=0.7):
    return rounded(gaussian_filter(clip.astype(float), (0, sigma, sigma, 0)))


def test_blur_shows_at_the_edges_of_the_truth():
    clip = clips()[0]
    assert edge_sharpness(clip, clip) == 1.0
    assert 0.3 < edge_sharpness(clip, blurred(clip)) < 0.8
    assert edge_sharpness(clip, np.roll(clip, 1, axis=2)) == pytest.approx(1, abs=0.03)  # off by one is no blur
    assert edge_sharpness(np.full_like(clip, 90), clip) is None


def test_blur_shows_with_nothing_aligned():
    a, b = clips()[:12], clips()[12:]
    assert gradient_percentiles(a)[-1] == pytest.approx(gradient_percentiles(b)[-1], rel=0.15)
    assert gradient_percentiles(map(blurred, a))[-1] < 0.75 * gradient_percentiles(b)[-1]
    assert edge_width(a) == pytest.approx(edge_width(b), rel=0.1)
    assert edge_width(map(blurred, a)) > 1.4 * edge_width(b)
    assert gradient_percentiles([]) is None and edge_width([np.full((1, 16, 16, 3), 9, np.uint8)]) is None


def test_percentiles_are_of_the_pixels_of_all_clips():
    ramp = np.arange(0, 100, 10, dtype=np.uint8).reshape(1, 1, 10, 1).repeat(10, 1).repeat(3, 3)
    assert gradient_percentiles([ramp, np.zeros((1, 10, 10, 3), np.uint8)], (25.0, 75.0)) == [0.125, 10.125]


def test_what_flickers_behind_solids_is_measured_in_grey_levels():
    true = background_change(clips())
    assert true["flicker"] < 0.1 and true["share"] > 0.2
    flicker = [rounded(clip + 4.0 * (np.arange(len(clip)) % 2)[:, None, None, None]) for clip in clips()]
    assert background_change(flicker)["flicker"] == pytest.approx(4 + true["flicker"], abs=0.1)
    drift = [rounded(clip + 0.5 * np.arange(len(clip))[:, None, None, None] * 2) for clip in clips()]
    assert background_change(drift)["drift"] == pytest.approx(8, abs=1) and background_change(drift)["flicker"] < 1.2
    assert background_change([clip[:1] for clip in clips()]) == {"flicker": None, "drift": None, "share": None}


def test_a_solid_and_what_is_near_it_are_no_background():
    clip = np.full((5, 40, 40, 3), 128, np.uint8)
    for t in range(5):
        clip[t, 10:20, 5 + 2 * t : 15 + 2 * t] = (230, 25, 25)
    still = background(clip)
    assert not still[8:22, 3:25].any() and still[32:].all() and still[:, 34:].all()
    clip[2, 34:36, 36:38] = (230, 25, 25)  # one frame's flicker is no solid, whatever its size
    assert background(clip)[34:36, 36:38].all()


def square(sides, colours):
    clip = np.full((len(sides), 40, 40, 3), 128, np.uint8)
    for t, (side, colour) in enumerate(zip(sides, colours)):
        clip[t, 20 - side // 2 : 20 + side // 2, 20 - side // 2 : 20 + side // 2] = colour
    return clip


def test_a_solid_that_grows_fades_or_changes_its_hue_is_seen():
    steady = constancy([square([12] * 9, [(200, 20, 20)] * 9)], fps=8.0)
    assert all(abs(steady[f"still_{name}_{kind}"]) < 1e-6 for name in ("brightness", "hue", "area") for kind in ("slope", "spread"))
    grown = constancy([square([8, 10, 12, 14, 16], [(200, 20, 20)] * 5)], fps=8.0)
    assert grown["still_area_slope"] == pytest.approx(2 * np.log(16 / 8) * 2, rel=0.05)
    faded = constancy([square([12] * 9, [(200 - 8 * t, 20, 20) for t in range(9)])], fps=8.0)
    assert faded["brightness_slope"] == pytest.approx(64, rel=0.01) and faded["brightness_spread"] < 0.1
    turned = constancy([square([12] * 9, [(200, 20, 20 + 40 * (t % 2)) for t in range(9)])], fps=8.0)
    assert turned["hue_spread"] > 4 and turned["area_spread"] == pytest.approx(0, abs=1e-6)


def test_hue_is_followed_past_red():
    wobble = square([12] * 9, [(200, 20, 24) if t % 2 else (200, 24, 20) for t in range(9)])
    assert constancy([wobble], fps=8.0)["hue_spread"] < 2


def test_a_solid_that_is_cut_or_gone_is_not_measured():
    clip = square([12] * 9, [(200, 20, 20)] * 9)
    clip[3] = 128
    assert course(clip).lost == pytest.approx(1 / 9) and 3 not in course(clip).frames
    assert course(np.roll(clip, 16, axis=2)) is None
    assert constancy([np.full((9, 16, 16, 3), 128, np.uint8)], fps=8.0)["area_slope"] is None


def test_all_measures_of_samples_beside_the_truth():
    made, true = [blurred(clip) for clip in clips()[:12]], clips()[12:]
    found = picture_measures(made, true, true, (8, 8, 8), 8.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == found and found["fvd"] is None
    assert (
        found["figures"]["edge_width"]["over_true"] > 1.4
        and found["figures"]["seams.space"]["vae"] == found["figures"]["seams.space"]["true"]
    )
    assert set(found["two_sample"]) == {"samples_from_vae", "samples_from_true", "vae_from_true", "true_from_true"}
    assert found["two_sample"]["vae_from_true"]["accuracy"] == 0.5
    assert found["two_sample"]["true_from_true"] is None  # halves of 12 are too few

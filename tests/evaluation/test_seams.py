"""Seams are found where they are planted, on the latent grid and nowhere else."""

import json

import numpy as np
import pytest

from videodit.evaluation.seams import Seams, seam_figures

STRIDE = (4, 8, 8)


def clips(count=4, shape=(9, 40, 48), seed=0):
    """Moving slopes with a square of hard edges at a random place: uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    t, y, x = (np.arange(side).reshape([-1 if i == axis else 1 for i in range(3)]) for axis, side in enumerate(shape))
    made = []
    for _ in range(count):
        a, b, c = rng.uniform(-1.5, 1.5, 3)
        clip = np.repeat((120 + a * y + b * x + 3 * c * t + rng.normal(0, 1, shape))[..., None], 3, axis=-1)
        top, left = rng.integers(2, 20, 2)
        clip[:, top : top + 13, left : left + 13] += rng.uniform(-60, 60, 3)
        made.append(np.clip(clip, 0, 255).round().astype(np.uint8))
    return made


def with_blocks(clip, levels, side, seed=1):
    rng = np.random.default_rng(seed)
    rows, columns = (-(-n // side) for n in clip.shape[1:3])
    offsets = rng.choice([-levels, levels], (1, rows, columns, 1)).repeat(side, 1).repeat(side, 2)[:, : clip.shape[1], : clip.shape[2]]
    return np.clip(clip + offsets, 0, 255).astype(np.uint8)


def with_steps_in_time(clip, levels, every, first=1):
    """Adds to every other group of frames: `first` frames, then `every`, `every`, ..."""
    group = np.where(np.arange(len(clip)) < first, 0, 1 + (np.arange(len(clip)) - first) // every)
    return np.clip(clip + levels * (group % 2)[:, None, None, None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("aligned", [True, False])
def test_clean_clips_have_no_more_seams_than_the_truth(aligned):
    found = seam_figures(clips(), clips() if aligned else clips(40, seed=5), STRIDE, aligned)
    assert all(each["over_truth"] == pytest.approx(1, abs=0.15) for each in found.values())


@pytest.mark.parametrize("aligned", [True, False])
def test_offsets_of_blocks_on_the_grid_are_seams_in_space_alone(aligned):
    found = seam_figures([with_blocks(clip, 3, 8) for clip in clips()], clips(), STRIDE, aligned)
    assert found["space"]["over_truth"] > 1.4
    assert found["space_smooth"]["over_truth"] > found["space"]["over_truth"]
    assert found["time"]["over_truth"] == pytest.approx(1, abs=0.05)


def test_offsets_of_blocks_off_the_grid_are_no_seams():
    shifted = [np.roll(with_blocks(np.roll(clip, (4, 4), (1, 2)), 3, 8), (-4, -4), (1, 2)) for clip in clips()]
    assert seam_figures(shifted, clips(), STRIDE, True)["space"]["over_truth"] < 1


def test_steps_between_latent_frames_are_seams_in_time_alone():
    found = seam_figures([with_steps_in_time(clip, 4, 4) for clip in clips()], clips(), STRIDE, True)
    assert found["time"]["over_truth"] > 1.5
    assert found["space"]["over_truth"] == pytest.approx(1, abs=0.02)


def test_latent_frames_begin_after_the_first_frame():
    found = seam_figures([with_steps_in_time(clip, 4, 4, first=3) for clip in clips()], clips(), STRIDE, True)
    assert found["time"]["over_truth"] < 1


def test_sums_are_of_all_clips_and_no_mean_of_ratios():
    quiet, loud = np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8)
    quiet[:, :, 8:], loud[:, :, 4:] = 1, 101
    seams = Seams(STRIDE)
    seams.add(quiet)
    seams.add(loud)
    # Columns: 2 x 16 steps across, one of them 1 in each row; rows the same number of zeros. Inside 14 a row and clip, one of them 101.
    assert seams.ratios()["space"] == pytest.approx((1 / 4) / (101 / 56), rel=0.01)


def test_a_constant_clip_and_an_image_divide_by_nothing():
    flat = [np.full((9, 16, 16, 3), 7, np.uint8)]
    found = seam_figures(flat, flat, STRIDE)
    assert all(each["over_truth"] == 1 for each in found.values())
    blocks = [with_blocks(flat[0], 7, 8)]
    assert 100 < seam_figures(blocks, flat, STRIDE)["space"]["over_truth"] < np.inf
    image = seam_figures([flat[0][:1]], [flat[0][:1]], STRIDE)
    assert image["time"] == {"ratio": None, "truth": None, "over_truth": None}
    json.dumps(image)

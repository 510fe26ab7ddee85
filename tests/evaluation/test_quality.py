"""PSNR is what the definition says, SSIM is scikit-image's, and flicker is change that the source does not have."""

import pathlib

import numpy as np
import pytest

from videodit.evaluation.quality import flicker, psnr_db, ssim

SSIM_VALUES = np.load(pathlib.Path(__file__).with_name("ssim_values.npz"))  # by make_ssim_values.py


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("error", "db"), [(255, 0.0), (1, 48.1308), (16, 24.0484)])
def test_psnr_of_a_constant_error(error, db):
    zeros = np.zeros((2, 3, 3, 3), np.uint8)
    assert psnr_db(zeros, zeros + np.uint8(error)) == pytest.approx(db, abs=1e-3)
    assert psnr_db(zeros + np.uint8(error), zeros) == pytest.approx(db, abs=1e-3)


def test_equal_clips():
    clip = noise((2, 16, 16, 3))
    assert (psnr_db(clip, clip), ssim(clip, clip)) == (100.0, 1.0)


@pytest.mark.parametrize("name", [name[:-5] for name in SSIM_VALUES if name.endswith("_ssim")])
def test_ssim_is_that_of_scikit_image(name):
    a, b = SSIM_VALUES[f"{name}_a"], SSIM_VALUES[f"{name}_b"]
    assert ssim(a, b) == pytest.approx(float(SSIM_VALUES[f"{name}_ssim"]), abs=1e-9)
    assert ssim(b, a) == pytest.approx(ssim(a, b), abs=1e-12)


@pytest.mark.parametrize("side", range(1, 12))
def test_a_thin_frame_has_the_largest_odd_window_that_it_holds(side):
    a, b = noise((2, side, 30, 3)), noise((2, side, 30, 3), 1)
    found, turned = ssim(a, b), ssim(a.transpose(0, 2, 1, 3), b.transpose(0, 2, 1, 3))
    assert -1 <= found < 0.9 and found == pytest.approx(turned) and ssim(a, a) == 1.0
    # An even side holds the window of one row less, at two places.
    if side % 2 == 0:
        parts = [ssim(a[:, i : side - 1 + i], b[:, i : side - 1 + i]) for i in (0, 1)]
        assert found == pytest.approx(np.mean(parts))


def test_a_still_source_flickers_by_what_the_copy_changes():
    source = np.full((5, 16, 24, 3), 100, np.uint8)
    made = source.copy()
    made[1::2] += 4  # up and down by 4 grey levels
    assert flicker(source, made) == pytest.approx(4.0)
    assert flicker(source, source + np.uint8(50)) == 0.0  # off, and steadily so


def test_a_copy_that_moves_as_its_source_does_not_flicker():
    source = noise((4, 16, 16, 3)) // 100  # changes by 2 levels at most
    assert flicker(source, source) == 0.0
    assert flicker(source, np.repeat(source[:1], 4, axis=0)) == 0.0


def test_only_still_blocks_count():
    source = np.full((3, 16, 20, 3), 50, np.uint8)
    source[1, :8] += 100  # the upper blocks move
    made = source.copy()
    made[1, :8] += 30
    made[1, 8:, 16:] += 6  # a smaller block at the edge: 8 x 4 of the 8 x 20 still pixels
    assert flicker(source, made) == pytest.approx(6 * 4 / 20)


def test_nothing_still_has_no_flicker():
    assert flicker(noise((1, 8, 8, 3)), noise((1, 8, 8, 3), 1)) is None
    assert flicker(noise((3, 8, 8, 3)), noise((3, 8, 8, 3), 1)) is None

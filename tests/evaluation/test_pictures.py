"""Pictures are put side by side and one above another, whatever their sizes."""

import io

import numpy as np
from PIL import Image
import pytest

from videodit.evaluation.pictures import GAP, PAPER, above, beside, contact_sheet, enlarge, looping, strip, writing


def picture(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_side_by_side_keep_their_pixels():
    sheet = beside([picture(2, 3, 10), picture(4, 1, 20)])
    assert sheet.shape == (4, 3 + GAP + 1, 3)
    assert (
        (sheet[:2, :3] == 10).all() and (sheet[:, -1:] == 20).all() and (sheet[2:, :3] == PAPER).all() and (sheet[:, 3:-1] == PAPER).all()
    )


def test_pictures_above_one_another_are_the_same_turned():
    sheet = above([picture(2, 3, 10), picture(4, 1, 20)])
    assert sheet.shape == (2 + GAP + 4, 3, 3) and (sheet[:2] == 10).all() and (sheet[-4:, :1] == 20).all()


@pytest.mark.parametrize(("length", "count", "shown"), [(9, 5, [0, 2, 4, 6, 8]), (9, 2, [0, 8]), (1, 5, [0]), (2, 5, [0, 1]), (17, 1, [0])])
def test_a_strip_shows_frames_from_first_to_last(length, count, shown):
    frames = np.stack([picture(1, 1, t) for t in range(length)])
    assert strip(frames, count)[0, :: GAP + 1, 0].tolist() == shown


def test_enlarging_repeats_pixels():
    assert enlarge(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 3).shape == (6, 6, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_contact_sheet_holds_every_clip(count):
    clips = [np.stack([picture(4 + i, 6, 10 * i)] * (1 + i)) for i in range(count)]
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(clips, columns=2, frames=2, times=2))))
    assert {10 * i for i in range(count)} <= set(np.unique(sheet))


def test_a_looping_picture_keeps_every_pixel_of_every_frame():
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    moving = Image.open(io.BytesIO(looping(clip, 8.0)))
    assert (moving.n_frames, moving.info["loop"]) == (5, 0)
    for t, frame in enumerate(clip):
        moving.seek(t)
        assert (np.asarray(moving.convert("RGB")) == frame).all()
    assert (np.asarray(Image.open(io.BytesIO(looping(clip[:1], 8.0))).convert("RGB")) == clip[0]).all()


def test_writing_breaks_lines_that_are_too_long_and_stays_inside():
    short, long = writing(["a red ball"], 300), writing(["a red ball " * 8], 300)
    assert short.shape[1] == long.shape[1] == 300 and len(long) >= 2 * len(short) and short.min() < 64
    assert (long[:, -2:] == PAPER).all()

"""Bars that hold through a whole shot are cropped to the pixel; nothing that is only dark is a bar."""

import numpy as np
import pytest

from videodit.data import media
from videodit.data.curate import CurateConfig, cut, examine
from videodit.data.curate.bars import NONE, Bars, crop_box, find_bars, may_have_bars


def boxed(clip, top=0, bottom=0, left=0, right=0):
    return np.pad(clip, ((0, 0), (top, bottom), (left, right), (0, 0)))


def box_of(source):
    (found,) = examine(source, CurateConfig()).candidates
    return found.crop


@pytest.mark.parametrize("pad", [(16, 16, 0, 0), (0, 0, 30, 30), (13, 15, 0, 0), (12, 12, 20, 20)])
def test_bars_are_found_to_the_pixel(shot, encoded, pad):
    clip = boxed(shot(1), *pad)
    top, left, height, width = box_of(encoded(clip))
    assert abs(top - pad[0]) <= 1 and abs(left - pad[2]) <= 1
    assert top + height <= clip.shape[1] - pad[1] and left + width <= clip.shape[2] - pad[3]
    assert height >= 70 and width >= 94 and height % 2 == width % 2 == 0


def test_a_full_picture_has_none(shot, encoded):
    assert box_of(encoded(shot(1))) is None


def test_bars_must_hold_through_the_whole_shot(shot, encoded):
    clip = boxed(shot(1, 24), 16, 16)
    clip[20, 4:12, 20:80] = 200  # a title in the bar
    assert box_of(encoded(clip)) is None or box_of(encoded(clip))[0] <= 4


@pytest.mark.parametrize("bottom", [0, 6])
def test_one_strip_alone_or_two_of_unlike_thickness_are_no_letterbox(shot, encoded, bottom):
    assert box_of(encoded(boxed(shot(1), top=20, bottom=bottom))) is None


def test_dark_scenes_are_no_bars(encoded):
    y, x = np.mgrid[:96, :128]
    lamp = 200 * np.exp(-((y - 48) ** 2 + (x[None] - 40 - np.arange(24)[:, None, None] * 2) ** 2) / 300)
    assert box_of(encoded(np.repeat(lamp[..., None], 3, -1).astype(np.uint8))) is None
    skyline = np.zeros((24, 96, 128, 3), np.uint8)
    for k in range(12):  # towers of many heights against a black sky, mirrored in black water
        skyline[:, 20 + 3 * k : 76 - 3 * k, k * 10 : k * 10 + 8] = 150
    skyline[::2] += 20 * (skyline[::2] > 0).astype(np.uint8)
    assert box_of(encoded(skyline)) is None


def test_frames_that_are_black_all_over_say_nothing_of_bars(shot, encoded):
    clip = boxed(shot(1), 16, 16)
    clip[10:12] = 0
    found = examine(encoded(clip), CurateConfig(shots=False)).candidates[0]
    assert found.crop is not None and abs(found.crop[0] - 16) <= 1


def test_the_real_letterbox_is_cropped_and_real_full_pictures_are_not(clips):
    for found in examine(clips / "awkward/letterboxed_big_buck_bunny_320x240.mp4", CurateConfig()).candidates:
        assert found.crop == (30, 0, 180, 320)
    for name in ("clips/nasa_webb_test_480x270.mp4", "clips/tears_of_steel_multiscene_800x332.mp4", "clips/rabbit_figurine_320x240.mp4"):
        assert {found.crop for found in examine(clips / name, CurateConfig()).candidates} == {None}, name


def test_cut_leaves_the_bars_out(shot, encoded):
    clip = boxed(shot(1), 16, 16)
    source = encoded(clip)
    examined = examine(source, CurateConfig())
    content, fields = cut(source, examined.info, examined.candidates[0])
    made = media.decode(content)
    assert made.shape == (24, fields["height"], fields["width"], 3) == (24, 72, 96, 3)
    assert np.abs(made.astype(int) - shot(1)).mean() < 5


def test_bars_follow_a_turned_frame():
    luma = np.zeros((40, 60), np.uint8)
    luma[5:33, :] = 200
    stored = find_bars(luma)
    assert stored[:4] == (5, 7, 0, 0)
    for quarters in range(4):
        assert find_bars(np.rot90(luma, quarters)) == stored.turned(quarters)


def test_boxes_are_in_square_pixels_and_leave_no_line_of_a_bar():
    bars, edges = np.tile([7, 7, 0, 0], (9, 1)), np.ones((9, 4), bool)
    top, left, height, width = crop_box(bars, edges, (100, 100), (100, 150))
    assert (top, left, height, width) == (7, 0, 86, 150)
    top, _, height, _ = crop_box(bars, edges, (100, 100), (133, 100))
    assert top == 10 and top + height <= 133 - 9


def test_the_closer_look_is_taken_only_where_an_edge_is_black(shot):
    assert not may_have_bars(shot(1)[0, ..., 0])
    assert may_have_bars(boxed(shot(1), 8, 8)[0, ..., 0])
    assert find_bars(shot(1)[0, ..., 0])[:4] == NONE[:4]
    assert find_bars(np.zeros((30, 40), np.uint8)) == Bars(30, 30, 40, 40)

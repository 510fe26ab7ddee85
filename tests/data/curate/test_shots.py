"""Hard cuts are found to the frame; what moves fast, flashes or shakes within a shot is no cut."""

import json
import sys

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.curate import CurateConfig, examine
from videodit.data.curate.shots import find_cuts, shots_between


def test_cuts_between_different_pictures_are_found(shot):
    clip = np.concatenate([shot(1, 20), shot(2, 9), shot(3, 3)])
    assert find_cuts(clip) == [20, 29]


def test_a_shot_without_cuts_is_one(shot):
    assert find_cuts(shot(1, 40)) == []
    assert find_cuts(np.full((9, 40, 40, 3), 90, np.uint8)) == []


def test_hard_cuts_of_real_films_are_found_to_the_frame(clips):
    lines = (clips / "manifest.jsonl").read_text().splitlines()
    rows = {row["file"]: row for row in map(json.loads, lines)}
    for file in (
        "clips/roadtrip_hardcuts_vp9_10bit_426x240.webm",
        "clips/tears_of_steel_multiscene_800x332.mp4",
        "awkward/letterboxed_big_buck_bunny_320x240.mp4",
    ):
        expected = rows[file]["hard_cuts_first_frame_of_new_shot"]
        found = examine(clips / file, CurateConfig()).candidates
        starts = np.cumsum([each.frames for each in found])[:-1].tolist()
        assert starts == expected, file


def test_real_single_shots_are_not_cut(clips):
    # Fast motion, a turn of the camera, a frozen picture.
    for file in (
        "clips/carpenter_bee_1280x720.mp4",
        "clips/highway_traffic_20frames_960x540.mp4",
        "clips/letter_blocks_portrait_404x720.mp4",
        "clips/bear_320x240_vp9.webm",
        "clips/desk_phone_h263_352x288.3gp",
        "awkward/portrait_by_displaymatrix_bee.mp4",
        "awkward/vfr_irregular_flower.mp4",
        "awkward/static_still_coffee.mp4",
    ):
        assert len(examine(clips / file, CurateConfig()).candidates) == 1, file


def test_a_change_of_lens_is_a_cut_and_a_jerk_is_none(clips):
    found = examine(clips / "clips/rooftop_skyline_640x360.mp4", CurateConfig()).candidates
    assert [each.frames for each in found] == [18, 283]


def test_a_flash_does_not_end_a_shot():
    same, other = 0x0F0F0F0F0F0F0F0F, 0xF0F0F0F0F0F0F0F0
    hashes = np.array([same] * 10 + [other] * 2 + [same] * 10, np.uint64)
    assert shots_between([10, 12], hashes) == [(0, 22)]
    hashes[12:] = 0x3C3C3C3C3C3C3C3C  # another picture after it: two frames between two cuts
    assert shots_between([10, 12], hashes) == [(0, 10), (10, 12), (12, 22)]


def test_shots_cover_every_frame_once():
    hashes = np.arange(30).astype(np.uint64) << np.uint64(20)
    assert shots_between([], hashes) == [(0, 30)]
    assert shots_between([8, 19], hashes) == [(0, 8), (8, 19), (19, 30)]


def test_a_missing_package_is_named_with_what_does_without(shot, encoded, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(UserError, match=r"pip install 'videodit\[prepare\]'"):
        examine(encoded(shot(1, 5)), CurateConfig())
    assert len(examine(encoded(shot(1, 5)), CurateConfig(shots=False)).candidates) == 1

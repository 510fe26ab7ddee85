"""The table of sizes says what the policy does, and its picture shows it."""

import io

import numpy as np
from PIL import Image
import pytest

from videodit.data.size_table import picture, size_rows, to_lines
from videodit.data.sizes import SizePolicy

POLICY = SizePolicy(fps=8.0, max_tokens=128, max_frames=17, grid=(4, 8, 8))
SIZES = np.array([[30, 720, 1280], [90, 720, 1280], [1, 720, 1280], [9, 40, 40], [9, 40, 40], [9, 40, 40]])
FPS = np.array([30.0, 30.0, 1.0, 8.0, 8.0, 8.0])


def test_a_row_a_size_and_kind_the_commonest_first():
    rows = size_rows(SIZES, FPS, POLICY)
    assert [(row.native, row.still, row.clips) for row in rows] == [((40, 40), False, 3), ((720, 1280), False, 2), ((720, 1280), True, 1)]


def test_figures_are_those_of_the_policy():
    small, large, still = size_rows(SIZES, FPS, POLICY)
    assert (small.used, small.pixels_kept, small.frames_kept, small.picture_kept, small.tokens) == ((9, 40, 40), 1.0, 1.0, 1.0, 75)
    assert large.tokens <= 128 and large.pixels_kept == large.used[1] * large.used[2] / (720 * 1280) < 0.05
    # One second at 8 frames a second is 5 and 5 of 8 frames, two of them shared; three seconds are 17 and 9 of 24.
    assert large.frames_kept == 1 and large.windows == 4
    own, used = 1280 / 720, large.used[2] / large.used[1]
    assert large.picture_kept == pytest.approx(min(own / used, used / own)) and still.used[0] == 1


def test_lines_name_sizes_as_width_by_height():
    lines = to_lines(size_rows(SIZES, FPS, POLICY))
    assert len(lines) == 4 and "1280x720" in lines[2] and "still" in lines[3] and len({len(line) for line in lines}) == 1


def test_the_picture_draws_each_size_to_scale():
    rows = size_rows(SIZES, FPS, POLICY)
    shown = np.asarray(Image.open(io.BytesIO(picture(rows))))
    assert shown.shape[1] == 3 * 168
    blue = (shown == (0x9E, 0xCA, 0xE1)).all(axis=-1)
    first, second = blue[:168, :168].sum(), blue[:168, 168:336].sum()
    assert first > 5 * second > 0  # the first is used whole, the second at less than a twentieth
    assert picture(rows) == picture(rows)

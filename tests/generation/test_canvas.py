"""What is known of a clip: pieces lie where they are put, and a token is known where all of its pixels are."""

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.generation.canvas import GREY, Canvas, group_of, known_tokens, of_clip, of_pieces, pad_to_grid


def solid(value, frames=1):
    return np.full((frames, 4, 6, 3), value, np.uint8)


def test_between_pieces_the_last_frame_before_is_held():
    canvas = of_pieces(9, (4, 6), [(2, solid(10, 2)), (6, solid(20))])
    assert canvas.frames[:, 0, 0, 0].tolist() == [10] * 6 + [20] * 3
    assert canvas.given.all(axis=(1, 2)).tolist() == canvas.given.any(axis=(1, 2)).tolist() == [n in (2, 3, 6) for n in range(9)]


def test_later_pieces_count_and_nothing_is_grey():
    assert of_pieces(2, (4, 6), [(0, solid(1, 2)), (1, solid(2))]).frames[:, 0, 0, 0].tolist() == [1, 2]
    empty = of_pieces(2, (4, 6), [])
    assert (empty.frames == GREY).all() and not empty.given.any()


@pytest.mark.parametrize("first", [-1, 8])
def test_a_piece_outside_is_named(first):
    with pytest.raises(UserError, match="but there are 9: ask for a longer clip"):
        of_pieces(9, (4, 6), [(first, solid(0, 2))])


def test_frames_that_share_a_latent():
    assert [list(group_of(frame, 4)) for frame in (0, 1, 4, 5)] == [[0], [1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_the_grid_is_filled_by_edges_evenly_at_the_sides_and_at_the_end():
    canvas = of_pieces(6, (5, 7), [(5, np.arange(35, dtype=np.uint8).reshape(1, 5, 7, 1).repeat(3, axis=3))])
    whole = pad_to_grid(canvas, (3, 2, 2), (4, 4, 4))
    assert whole.frames.shape == (9, 8, 8, 3)
    np.testing.assert_array_equal(whole.frames[:6, 1:6, 0:7], canvas.frames)
    assert (whole.frames[6:] == whole.frames[5]).all() and (whole.frames[:, 0] == whole.frames[:, 1]).all()
    assert whole.given.any(axis=(1, 2)).tolist() == [False] * 5 + [True] * 4


def test_a_token_is_known_where_all_of_its_pixels_are():
    given = np.zeros((9, 8, 16), bool)
    given[0], given[1:5, :, :8], given[5:8] = True, True, True
    known = known_tokens(given, (4, 4, 4), (1, 2, 2))
    assert known.tolist() == [[[True, True]], [[True, False]], [[False, False]]]


def test_of_a_clip_all_is_given_but_what_is_to_be_made():
    hole = np.zeros((1, 4, 6), bool)
    hole[0, 1, 2] = True
    canvas = of_clip(solid(5, 3), hole)
    assert canvas.given.sum() == 3 * 23 and not canvas.given[:, 1, 2].any()


@pytest.mark.parametrize(
    ("frames", "given", "said"),
    [
        (np.zeros((2, 4, 6, 3)), np.zeros((2, 4, 6), bool), "a canvas is float64"),
        (solid(0), np.zeros((2, 4, 6), bool), r"given of a canvas is bool \[2, 4, 6\], expected bool \[1, 4, 6\]"),
    ],
)
def test_arrays_of_another_kind_are_named(frames, given, said):
    with pytest.raises(UserError, match=said):
        Canvas(frames=frames, given=given)

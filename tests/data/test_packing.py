"""Packing: samples of any size lie whole in rows of one length, each with what it needs to be taken out again."""

import numpy as np
import pytest

from videodit.core.patches import unpatchify
from videodit.core.segments import PATCH, TEXT
from videodit.data.packing import TOKEN_FEATURES, concatenate_rows, pack_rows, tokens_of

CHANNELS, PATCHES = 3, (1, 2, 2)


def sample(number, size=(2, 2, 4), words=3):
    random = np.random.default_rng(number)
    return tokens_of(random.normal(size=(*size, CHANNELS)).astype(np.float32), random.integers(3, 50, words), PATCHES, number)


def test_text_comes_first_then_patches_with_their_positions():
    tokens = sample(7, (2, 2, 4), words=3)
    assert tokens["modality"].tolist() == [TEXT] * 3 + [PATCH] * 4
    assert tokens["positions"].tolist() == [[-3, 0, 0], [-2, 0, 0], [-1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert (tokens["extent"] == [2, 1, 2]).all() and (tokens["clip"] == 7).all()
    assert (tokens["patches"][:3] == 0).all() and (tokens["text_ids"][3:] == 0).all() and (tokens["text_ids"][:3] > 0).all()
    assert {name: tokens[name].dtype for name in TOKEN_FEATURES} == {
        name: np.float32 if name == "patches" else np.int32 for name in TOKEN_FEATURES
    }


def test_a_clip_without_a_caption_is_patches_alone():
    assert (sample(0, words=0)["modality"] == PATCH).all()


def test_what_is_packed_can_be_taken_out_again():
    rows = [[sample(1), sample(2, (1, 4, 2), 0)], [], [sample(3, (3, 2, 2), 5)]]
    batch = concatenate_rows(rows, 16)
    assert batch["patches"].shape == (3, 16, CHANNELS * 4)
    for r, row in enumerate(rows):
        assert batch["segment_ids"][r].max() == len(row)
        for number, each in enumerate(row, start=1):
            inside = batch["segment_ids"][r] == number
            for name in TOKEN_FEATURES:
                np.testing.assert_array_equal(batch[name][r, inside], each[name])
    inside = (batch["segment_ids"][2] == 1) & (batch["modality"][2] == PATCH)
    latents = np.random.default_rng(3).normal(size=(3, 2, 2, CHANNELS)).astype(np.float32)
    np.testing.assert_array_equal(unpatchify(batch["patches"][2, inside], (3, 1, 1), PATCHES), latents)


def test_padding_is_zero_in_every_feature():
    batch = concatenate_rows([[sample(1)]], 12)
    padding = batch["segment_ids"] == 0
    assert padding.sum() == 12 - 7
    assert all((batch[name][padding] == 0).all() for name in TOKEN_FEATURES)


def test_a_row_that_is_too_short_says_how_long_it_must_be():
    with pytest.raises(ValueError, match="a row of 13 tokens cannot hold 14"):
        concatenate_rows([[sample(1), sample(2)]], 13)


# -- which samples lie together


def mixture(count, length, seed=0):
    """Lengths up to nine tenths of a row: long clips, short ones and stills."""
    random = np.random.default_rng(seed)
    kinds = [(0.04, 0.12), (0.12, 0.5), (0.65, 0.9)]
    return [int(random.uniform(*kinds[random.choice(3, p=(0.3, 0.4, 0.3))]) * length) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_is_in_one_row_or_left_over_and_no_row_is_too_long(seed):
    random = np.random.default_rng(seed)
    length, rows = int(random.integers(1, 300)), int(random.integers(1, 40))
    lengths = random.integers(1, length + 1, random.integers(0, 200)).tolist()
    filled, left = pack_rows(lengths, int(random.integers(0, len(lengths) + 1)), length, rows)
    assert sorted([*sum(filled, []), *left]) == list(range(len(lengths)))
    assert len(filled) <= rows and all(0 < sum(lengths[i] for i in row) <= length for row in filled)
    if left:  # no row is empty while a sample waits
        assert len(filled) == rows


@pytest.mark.parametrize("length", [512, 8192])
def test_rows_are_full_to_98_hundredths_where_a_tenth_more_is_drawn_than_they_hold(length):
    lengths = mixture(1000, length)
    rows = int(sum(lengths) / 1.1 / length)
    filled, _ = pack_rows(lengths, 0, length, rows)
    assert sum(lengths[i] for row in filled for i in row) / (rows * length) > 0.98


def test_those_that_waited_go_first():
    lengths = mixture(300, 512)
    waited = list(range(40))
    filled, left = pack_rows(lengths, len(waited), 512, 60)
    assert not set(left) & set(waited)


def test_gaps_are_filled_by_the_fewest_samples_that_fill_them():
    filled, left = pack_rows([60, 10, 10, 10, 10, 39], 0, 100, 1)
    assert filled == [[0, 5]] and left == [1, 2, 3, 4]
    filled, left = pack_rows([60, 5, 15, 25, 8], 0, 100, 1)
    assert sorted(filled[0]) == [0, 2, 3]


def test_the_same_lengths_give_the_same_rows():
    assert pack_rows(mixture(500, 512), 3, 512, 100) == pack_rows(mixture(500, 512), 3, 512, 100)

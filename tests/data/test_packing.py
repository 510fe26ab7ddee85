"""Packing: samples of any size lie whole in rows of one length, each with what it needs to be taken out again."""

import numpy as np
import pytest

from videodit.core.patches import unpatchify
from videodit.core.segments import PATCH, TEXT
from videodit.data.packing import TOKEN_FEATURES, concatenate_rows, pack_rows, text_length, text_lengths, tokens_of

CHANNELS, PATCHES = 3, (1, 2, 2)


def sample(number, size=(2, 2, 4), words=3):
    random = np.random.default_rng(number)
    latents = random.normal(size=(*size, CHANNELS)).astype(np.float32)
    text = random.integers(1, 50, (words, 2), np.int32), random.normal(size=(words // 2, 3)).astype(np.float32)
    return tokens_of(latents, text, PATCHES, number)


def test_text_comes_first_then_patches_with_their_positions():
    tokens = sample(7, (2, 2, 4), words=2)
    assert tokens["modality"].tolist() == [TEXT] * 3 + [PATCH] * 4
    assert tokens["positions"].tolist() == [[-3, 0, 0], [-2, 0, 0], [-1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert (tokens["extent"] == [2, 1, 2]).all() and (tokens["clip"] == 7).all()
    assert (tokens["patches"][:3] == 0).all() and [len(part) for part in tokens["text"]] == [2, 1]
    assert {name: tokens[name].dtype for name in TOKEN_FEATURES} == {
        name: np.float32 if name in ("patches", "time_step") else np.int32 for name in TOKEN_FEATURES
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
            at = batch["text_place"][r, inside & (batch["modality"][r] == TEXT)]
            assert (batch["text_segment_ids"][r, at] == number).all() and batch["text_positions"][r, at].tolist() == list(range(len(at)))
            first, second = np.split(at, [len(each["text"][0])])
            np.testing.assert_array_equal(batch["text_0"][r, first], each["text"][0])
            np.testing.assert_array_equal(batch["text_1"][r, second - batch["text_0"].shape[1]], each["text"][1])
    inside = (batch["segment_ids"][2] == 1) & (batch["modality"][2] == PATCH)
    latents = np.random.default_rng(3).normal(size=(3, 2, 2, CHANNELS)).astype(np.float32)
    np.testing.assert_array_equal(unpatchify(batch["patches"][2, inside], (3, 1, 1), PATCHES), latents)


def test_padding_is_zero_in_every_feature():
    batch = concatenate_rows([[sample(1)]], 12)
    padding = batch["segment_ids"] == 0
    assert padding.sum() == 12 - 8
    assert all((batch[name][padding] == 0).all() for name in (*TOKEN_FEATURES, "text_place"))
    assert batch["text_0"].shape == (1, 8, 2) and batch["text_1"].shape == (1, 8, 3) and batch["text_segment_ids"].sum() == 4
    assert (batch["text_0"][0, 3:] == 0).all() and (batch["text_1"][0, 1:] == 0).all() and (batch["text_positions"][0, 9:] == 0).all()


def test_a_row_that_is_too_short_says_how_long_it_must_be():
    with pytest.raises(ValueError, match="a row of 15 tokens cannot hold 16"):
        concatenate_rows([[sample(1), sample(2)]], 15)
    with pytest.raises(ValueError, match="a row of 5 text tokens cannot hold 6"):
        concatenate_rows([[sample(1), sample(2)]], 16, (5, 8))


def test_rows_of_text_are_as_long_as_kernels_take():
    assert [text_length(n) for n in (0, 1, 8, 9, 128, 129, 256, 257)] == [8, 8, 8, 16, 128, 256, 256, 384]
    assert text_lengths([[sample(1), sample(2, words=9)], [sample(3, words=40)]]) == (40, 24)


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

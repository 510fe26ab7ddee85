"""Packing: samples of any size lie whole in rows of one length, each with what it needs to be taken out again."""

import grain
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.core.patches import unpatchify
from videodit.core.segments import PATCH, TEXT
from videodit.data.packing import TOKEN_FEATURES, concatenate_rows, pack, tokens_of

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


@pytest.mark.parametrize("wrong", [{"length": 0}, {"rows": 0}, {"bins": 0}])
def test_a_packing_of_nothing_is_named(wrong):
    with pytest.raises(UserError, match="each must be 1 or more"):
        pack(None, **({"length": 8, "rows": 1, "bins": 1, "seed": 0} | wrong))


def test_packing_goes_on_from_every_point_of_its_way():
    samples = [sample(number, (1 + number % 3, 2, 2 + 2 * (number % 2)), number % 4) for number in range(30)]
    source = grain.MapDataset.source(samples).to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    grain.experimental.assert_equal_output_after_checkpoint(pack(source, length=16, rows=2, bins=3, seed=0))

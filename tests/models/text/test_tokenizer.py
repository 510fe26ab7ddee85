"""The tokenizer: the same captions give the same bytes in any process, and every text has tokens."""

import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.text.tokenizer import BEGIN, UNKNOWN, Tokenizer, train_tokenizer

CAPTIONS = [
    f"a {colour} {shape} {motion} {way}"
    for colour in ("red", "green", "blue")
    for shape in ("ball", "cube", "cone")
    for motion in ("rolls", "slides")
    for way in ("left", "right", "away")
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(train_tokenizer(CAPTIONS, 40))


def test_neither_order_nor_repeats_of_captions_matter(tokenizer):
    assert train_tokenizer(CAPTIONS[::-1] + CAPTIONS[:5] + [""], 40) == tokenizer.model


def test_another_process_trains_the_same_bytes(tokenizer):
    code = (
        "import sys; from videodit.models.text.tokenizer import train_tokenizer; "
        f"sys.stdout.buffer.write(train_tokenizer({CAPTIONS!r}, 40))"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == tokenizer.model


def test_a_caption_is_a_begin_token_and_a_piece_a_common_word(tokenizer):
    ids = tokenizer.encode("a red ball rolls left", 64)
    assert ids.dtype == np.int32 and ids[0] == BEGIN and 0 < ids.min() and ids.max() < tokenizer.size
    assert len(ids) < 1 + len("a red ball rolls left")
    assert (ids == tokenizer.encode("A RED  ball rolls left", 64)).all()


def test_an_empty_caption_is_the_begin_token_alone(tokenizer):
    assert tokenizer.encode("", 64).tolist() == [[BEGIN]]
    assert tokenizer.encode("   ", 64).tolist() == [[BEGIN]]


@pytest.mark.parametrize(
    "text",
    ["Ein Würfel rollt über die Straße", "赤いボールが左に転がる", "🔴⚽➡️", "\x07\u200b\ufeff a", "0123456789", "half \ud800 a character"],
)
def test_text_of_any_script_has_tokens_and_nothing_is_unknown(tokenizer, text):
    ids = tokenizer.encode(text, 256)
    assert len(ids) > 1 and UNKNOWN not in ids


def test_different_texts_have_different_tokens(tokenizer):
    texts = [*CAPTIONS, "赤", "青", "é", "e"]
    assert len({tokenizer.encode(text, 256).tobytes() for text in texts}) == len(texts)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_a_caption_that_is_too_long_is_cut_at_its_end(tokenizer, most):
    text = "a red ball rolls left " * 500
    np.testing.assert_array_equal(tokenizer.encode(text, most), tokenizer.encode(text, 10_000)[:most])


@pytest.mark.parametrize("captions", [[], ["", "  "], ["x"], ["🔴"], ["a " * 20_000, "b"], ["hello\nworld"], ["half \ud800 a character"]])
def test_captions_too_few_or_too_odd_to_learn_from_still_give_a_tokenizer(captions):
    made = Tokenizer(train_tokenizer(captions, 256))
    assert len(made.encode("a red ball", 64)) > 1


def test_a_public_model_without_a_begin_token_is_given_one():
    tokenizer = Tokenizer((pathlib.Path(__file__).with_name("golden") / "umt5" / "tokenizer" / "spiece.model").read_bytes())
    assert tokenizer.encode("", 64).tolist() == [[tokenizer.size - 1]]
    ids = tokenizer.encode("a red ball", 64)
    assert ids[0] == tokenizer.size - 1 > ids[1:].max()


def test_what_is_no_model_is_named():
    with pytest.raises(UserError, match="of 4 bytes is no sentencepiece model"):
        Tokenizer(b"none")


def test_it_pickles(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(CAPTIONS[0], 64).tolist() == tokenizer.encode(CAPTIONS[0], 64).tolist() and again.size == tokenizer.size

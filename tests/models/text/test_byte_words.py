"""Words of bytes: every text has tokens, about as many as words, and no byte is lost up to the cut."""

import numpy as np
import pytest

from videodit.models.text.byte_words import BEGIN, WORD, ByteWords
from videodit.models.text.tokenizer import normalised

TOKENIZER = ByteWords()
TEXTS = [
    "a red ball rolls left",
    "Ein Würfel rollt über die Straße",
    "赤いボールが左に転がる、そして止まる",
    "כדור אדום מתגלגל שמאלה",
    "كرة حمراء تتدحرج إلى اليسار",
    "🔴⚽➡️ 👩‍👩‍👧‍👦 🇫🇷",
    "\x00 \x07\u200b\ufeff a",
    "half \ud800 a character",
    "x" * 1000,
    "ﬁ ＡＢＣ e\u0301",
]


def bytes_of(ids):
    """What tokens hold, but for the begin token."""
    return b"".join((row[row > 0] - 1).astype(np.uint8).tobytes() for row in ids[1:])


@pytest.mark.parametrize("text", TEXTS)
def test_no_byte_of_the_normalised_text_is_lost(text):
    ids = TOKENIZER.encode(text, 10**6)
    assert ids.dtype == np.int32 and ids.shape[1:] == (WORD,) and 0 <= ids.min() and ids.max() < TOKENIZER.size
    assert ids[0].tolist() == [BEGIN] + [0] * (WORD - 1)
    assert bytes_of(ids) == f" {normalised(text)}".encode()
    used = ids > 0
    assert (used[:, 0]).all() and (np.diff(used.astype(int), axis=1) <= 0).all()  # padded at the end alone


def test_any_string_has_tokens_and_is_cut_to_its_first_ones():
    random = np.random.default_rng(0)
    for _ in range(300):
        top = int(random.choice([0x80, 0x800, 0x10000, 0x110000]))
        text = "".join(map(chr, random.integers(0, top, random.integers(0, 60))))  # lone surrogates among them
        whole = TOKENIZER.encode(text, 10**6)
        assert bytes_of(whole) == (f" {normalised(text)}".encode() if normalised(text) else b"")
        for most in (1, 2, 5):
            np.testing.assert_array_equal(TOKENIZER.encode(text, most), whole[:most])


def test_a_caption_has_a_token_a_word_and_a_word_is_the_same_wherever_it_stands():
    ids = TOKENIZER.encode("a red ball rolls left", 64)
    assert len(ids) == 1 + 5
    assert ids[2].tolist() == TOKENIZER.encode("RED  paint", 64)[1].tolist()


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_caption_is_the_begin_token_alone(text):
    assert TOKENIZER.encode(text, 64)[:, 0].tolist() == [BEGIN]


def test_case_width_composition_and_spacing_do_not_count_and_all_else_does():
    same = ["A Red ball", "a  red\nBALL ", "ａ ｒｅｄ ball"]
    assert len({TOKENIZER.encode(text, 64).tobytes() for text in same}) == 1
    different = [*TEXTS, "", "ab", "a b", "x" * 999, "x" * 15 + " " + "x" * 985, "赤", "青", "é", "e"]
    assert len({TOKENIZER.encode(text, 10**6).tobytes() for text in different}) == len(different)


def test_a_character_is_never_cut_in_two():
    for row in TOKENIZER.encode("赤いボールが左に転がる🔴" * 20, 10**6)[1:]:
        (row[row > 0] - 1).astype(np.uint8).tobytes().decode()

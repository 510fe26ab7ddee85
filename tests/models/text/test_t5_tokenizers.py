"""Public tokenizers give the original implementations' ids, and take any text. The files are made by make_t5_golden.py."""

import json
import pathlib
import pickle

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.text.t5_tokenizers import ByT5Tokenizer, T5Tokenizer, load_tokenizer
from videodit.models.text.tokenizer import train_tokenizer

GOLDEN = pathlib.Path(__file__).with_name("golden")
TOKENS = json.loads((GOLDEN / "tokens.json").read_text())
ODD = ["", "  ", "a\x00b", "\ud800 is half a character", "\ufeff\u200b", "שלום", "नमस्ते", "🔴⚽➡️" * 300, "word " * 20_000]


@pytest.fixture(params=["t5", "byt5"])
def tokenizer(request):
    return load_tokenizer(GOLDEN / "umt5" / "text_encoder") if request.param == "t5" else load_tokenizer(GOLDEN / "byt5")


@pytest.mark.parametrize("each", TOKENS, ids=lambda each: f"{each['prompt']}-{each['most']}")
def test_ids_are_the_originals(each):
    assert load_tokenizer(GOLDEN / "umt5" / "text_encoder").encode(each["prompt"], each["most"]).tolist() == each["t5"]
    assert ByT5Tokenizer().encode(each["prompt"], each["most"]).tolist() == each["byt5"]


def test_the_kind_is_read_off_the_directory():
    assert type(load_tokenizer(GOLDEN / "umt5" / "text_encoder")) is T5Tokenizer
    assert type(load_tokenizer(GOLDEN / "byt5")) is ByT5Tokenizer


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("most", [1, 2, 64])
def test_any_text_has_tokens_within_the_limit_and_ends_with_the_end(tokenizer, text, most):
    ids = tokenizer.encode(text, most)
    assert ids.dtype == np.int32 and 1 <= len(ids) <= most and ids[-1] == 1
    assert 1 not in ids[:-1] and 0 not in ids and ids.max() < tokenizer.size
    whole = tokenizer.encode(text, 2**31 - 1)
    np.testing.assert_array_equal(ids[:-1], whole[: len(ids) - 1])
    assert len(whole) <= most or len(ids) == most


def test_bytes_are_offset_by_three():
    assert ByT5Tokenizer().encode("aé", 99).tolist() == [97 + 3, 0xC3 + 3, 0xA9 + 3, 1]
    assert ByT5Tokenizer().size == 259


def test_they_pickle(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("a red ball", 64).tolist() == tokenizer.encode("a red ball", 64).tolist() and again.size == tokenizer.size


def test_what_is_no_tokenizer_is_told(tmp_path):
    with pytest.raises(UserError, match="expected spiece.model in it or in"):
        load_tokenizer(tmp_path / "text_encoder")
    model = (GOLDEN / "umt5" / "tokenizer" / "spiece.model").read_bytes()
    for broken in (b"", model[:-7], b"not a model"):
        with pytest.raises(UserError, match="no sentencepiece model"):
            T5Tokenizer(broken)
    with pytest.raises(UserError, match="no end token"):
        T5Tokenizer(train_tokenizer(["a red ball"], 40))

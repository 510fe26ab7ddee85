"""Sources of text tokens: one interface, the same tokens for the same prompt, and told apart by what they are made of."""

import json
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.text.config import EncoderConfig, TextConfig
from videodit.models.text.source import (
    TOKENIZER,
    RememberedText,
    check_identity,
    encoder_fingerprint,
    open_text,
    planned_embedder,
    text_identity,
)
from videodit.models.text.tokenizer import train_tokenizer

GOLDEN = pathlib.Path(__file__).with_name("golden")
PROMPTS = ["a red ball rolls left", "", "赤いボール " * 30, "a red ball rolls left"]
ENCODERS = TextConfig(
    encoders=(EncoderConfig(path=str(GOLDEN / "umt5"), max_tokens=9), EncoderConfig(path=str(GOLDEN / "byt5"), max_tokens=50))
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("latents")
    (directory / TOKENIZER).write_bytes(train_tokenizer(["a red ball rolls left", "a blue cube"], 40))
    return directory


CONFIGS = {
    "bytes": lambda directory: TextConfig(),
    "trained": lambda directory: TextConfig(tokenizer="trained"),
    "public": lambda directory: TextConfig(tokenizer=str(directory / TOKENIZER)),
    "encoders": lambda directory: ENCODERS,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_as_the_embedder_takes_them_and_as_many_as_told(name, directory):
    source = open_text(CONFIGS[name](directory), directory, 30)
    for prompt, text in zip(PROMPTS, source.encode(PROMPTS), strict=True):
        assert [part.shape[1:] for part in text] == [part.shape for part in source.embedder.parts]
        assert [part.dtype for part in text] == [part.dtype for part in source.embedder.parts]
        assert [len(part) for part in text] == np.minimum(source.lengths(prompt), source.limits).tolist()
    assert all(0 < most <= 30 for most in source.limits) and max(np.subtract(source.lengths(PROMPTS[2]), source.limits)) > 0
    assert source.lengths("") == (1,) * len(source.limits)


def test_encoders_follow_one_another_and_are_read_in_bfloat16():
    source = open_text(ENCODERS, "", 30)
    assert source.limits == (9, 30) and source.embedder.widths == (12, 12)
    assert {part.dtype for text in source.encode(PROMPTS) for part in text} == {np.dtype(ml_dtypes.bfloat16)}


def test_prompts_that_come_again_are_encoded_once():
    opened, asked = [], []

    class Source:
        def encode(self, prompts):
            asked.extend(prompts)
            return [(np.array([[len(prompt)]]),) for prompt in prompts]

    remembered = RememberedText(lambda: opened.append(1) or Source())
    for prompts in (PROMPTS, PROMPTS, [], PROMPTS[:1]):
        assert [int(text[0][0, 0]) for text in remembered.encode(prompts)] == [len(prompt) for prompt in prompts]
    assert len(opened) == 1 and asked == PROMPTS[:3]
    remembered.encode(["new"])
    assert len(opened) == 2 and asked[3:] == ["new"]


def test_an_encoder_is_told_by_its_files_wherever_they_lie(tmp_path):
    shutil.copytree(GOLDEN / "umt5", tmp_path / "umt5")
    assert encoder_fingerprint(tmp_path / "umt5") == encoder_fingerprint(GOLDEN / "umt5") != encoder_fingerprint(GOLDEN / "byt5")
    weights = next(tmp_path.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert encoder_fingerprint(tmp_path / "umt5") != encoder_fingerprint(GOLDEN / "umt5")


def test_what_text_was_made_with_is_compared():
    assert json.loads(json.dumps(text_identity(ENCODERS))) == text_identity(ENCODERS)
    check_identity(text_identity(ENCODERS), ENCODERS, "here")
    one = TextConfig(encoders=ENCODERS.encoders[:1])
    cut = TextConfig(encoders=(EncoderConfig(path=str(GOLDEN / "umt5"), max_tokens=8),))
    for config in (one, cut, TextConfig()):
        with pytest.raises(UserError, match="'here' was encoded with text from encoder .* and encoder .* asks for"):
            check_identity(text_identity(ENCODERS), config, "here")
    with pytest.raises(UserError, match="asks for encoder .*8 tokens"):
        check_identity(text_identity(one), cut, "here")


def test_the_embedder_is_known_before_anything_is_encoded(directory):
    assert planned_embedder(ENCODERS).widths == (12, 12)
    assert planned_embedder(TextConfig()) == open_text(TextConfig(), directory).embedder
    public = CONFIGS["public"](directory)
    assert planned_embedder(public) == open_text(public, directory).embedder
    assert planned_embedder(TextConfig(tokenizer="trained", vocabulary=99)).vocabulary == 99


def test_settings_that_cannot_be_are_named():
    with pytest.raises(UserError, match="max_tokens=0"):
        EncoderConfig(path="x", max_tokens=0)
    with pytest.raises(UserError, match="text.tokenizer is ''"):
        TextConfig(tokenizer="")

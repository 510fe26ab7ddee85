"""Encoders side by side: every prompt by every encoder, the same whatever else is encoded with it, in few compiled shapes."""

import pathlib

import jax
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.text import encoders
from videodit.models.text.encoders import TextEncoders, load_text_encoder, padded

GOLDEN = pathlib.Path(__file__).with_name("golden")
PROMPTS = [
    "a red ball rolls left",
    "",
    "赤いボールが左に転がる",
    "a cube slides " * 40,
    "a red ball rolls left",
    "\ud800",
    "b",
    "c",
]


@pytest.fixture(scope="module")
def pair():
    return TextEncoders([load_text_encoder(GOLDEN / "umt5", 64), load_text_encoder(GOLDEN / "byt5", 100)], batch=3)


def test_each_prompt_has_an_embedding_of_its_own_length_from_each_encoder(pair):
    found = pair.encode(PROMPTS)
    assert pair.widths == (12, 12) and len(found) == len(PROMPTS)
    for prompt, text in zip(PROMPTS, found):
        for encoder, embedding, cut in zip(pair.encoders, text.embeddings, text.cut, strict=True):
            whole = len(encoder.tokenizer.encode(prompt, 10**6))
            assert embedding.dtype == np.float32 and embedding.shape == (min(whole, encoder.max_tokens), encoder.width)
            assert np.isfinite(embedding).all() and cut == max(0, whole - encoder.max_tokens)
    assert found[3].cut[1] == len(PROMPTS[3]) + 1 - 100 and found[1].embeddings[0].shape == (1, 12)


def test_a_prompt_is_encoded_the_same_whatever_is_beside_it(pair):
    together = pair.encode(PROMPTS)
    for prompt, text in zip(PROMPTS, together):
        (alone,) = pair.encode([prompt])
        for one, other in zip(alone.embeddings, text.embeddings):
            np.testing.assert_allclose(one, other, atol=1e-5)
    again = pair.encode(PROMPTS)
    assert all((one == other).all() for a, b in zip(together, again) for one, other in zip(a.embeddings, b.embeddings))


def test_an_embedding_is_the_encoders_output_at_the_texts_tokens(pair):
    (text,) = pair.encode(["a red ball"])
    for encoder, embedding in zip(pair.encoders, text.embeddings):
        ids = encoder.tokenizer.encode("a red ball", 99)[None]
        expected = jax.jit(encoder.module.apply)({"params": encoder.params}, ids, np.ones_like(ids, bool))
        np.testing.assert_allclose(embedding, expected[0], atol=1e-5)


def test_no_more_shapes_than_powers_of_two_are_compiled(pair, monkeypatch):
    seen = set()

    def embed(module, params, ids, mask):
        seen.add(ids.shape)
        return np.zeros((*ids.shape, module.config.width), np.float32)

    monkeypatch.setattr(encoders, "_embed", embed)
    pair.encode(["a" * n for n in range(300)])
    assert seen == {(3, 16), (3, 32), (3, 64), (3, 128)}
    assert [padded(n) for n in (1, 16, 17, 64, 65)] == [16, 16, 32, 64, 128]


def test_no_prompts_give_nothing(pair):
    assert pair.encode([]) == []


def test_what_does_not_fit_together_is_told(pair):
    with pytest.raises(UserError, match="259 ids, its encoder 64"):
        encoders.TextEncoder(
            tokenizer=pair.encoders[1].tokenizer, module=pair.encoders[0].module, params=pair.encoders[0].params, max_tokens=8
        )
    with pytest.raises(UserError, match="max_tokens is 0"):
        load_text_encoder(GOLDEN / "umt5", 0)
    with pytest.raises(UserError, match="0 text encoders"):
        TextEncoders([])

"""The text of packed rows comes out as that of each sample alone, from words of bytes and from public encoders side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.models.text.byte_words import ByteWords
from videodit.models.text.embedder import TextEmbedder, TextEmbedderConfig, forward_flops
from videodit.models.text.refiner import TextRefinerConfig

WIDTH, REFINER = 16, TextRefinerConfig(depth=2, heads=2)
WORDS = TextEmbedderConfig(ids=16, vocabulary=258, refiner=REFINER)
ENCODED = TextEmbedderConfig(widths=(12, 6), refiner=REFINER)
PROMPTS = ("a red ball rolls left", "", "赤いボールが左に転がる", "a ball")


def words():
    return [(ByteWords().encode(prompt, 64),) for prompt in PROMPTS]


def encoded():
    random = np.random.default_rng(0)
    return [tuple(jnp.asarray(random.normal(size=(n, c)), jnp.bfloat16) for n, c in ((2 + i, 12), (9 - i, 6))) for i in range(4)]


def batch(texts, slots=None):
    """A row of samples with these texts."""
    samples = [tokens_of(np.zeros((1, 1, 2, 3), np.float32), [np.asarray(part) for part in text], (1, 1, 1)) for text in texts]
    return {name: jnp.asarray(value) for name, value in concatenate_rows([samples], 80, slots).items()}


def inputs(row):
    return [row[name] for name in ("text_0", "text_1") if name in row], row["text_segment_ids"], row["text_positions"]


def trained(config, row):
    """As after training: nothing is zero."""
    module, random = TextEmbedder(config, WIDTH), np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs(row))
    draw = lambda leaf: random.normal(size=leaf.shape) / np.sqrt(leaf.shape[0]) if leaf.ndim == 2 else random.normal(1, 0.3, leaf.shape)
    return module, jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), shapes)


@pytest.mark.parametrize(("config", "texts"), [(WORDS, words()), (ENCODED, encoded())], ids=["words", "encoders"])
def test_a_text_comes_out_packed_as_alone(config, texts):
    row = batch(texts)
    module, params = trained(config, row)
    apply = jax.jit(lambda *row: module.apply(params, *row))
    packed = apply(*inputs(row))
    for number, text in enumerate(texts, start=1):
        alone = batch([text])
        found = apply(*inputs(alone))[alone["text_segment_ids"] == 1]
        np.testing.assert_allclose(found, packed[row["text_segment_ids"] == number], atol=1e-5)
        assert np.abs(found).max() > 0.1


def test_padding_of_words_and_of_rows_changes_nothing():
    texts = words()
    row, wider = batch(texts, (32,)), batch(texts, (64,))
    module, params = trained(WORDS, row)
    apply = jax.jit(lambda params, row: module.apply(params, *inputs(row)))
    one, other = (apply(params, each)[each["text_segment_ids"] > 0] for each in (row, wider))
    np.testing.assert_allclose(one, other, atol=1e-5)
    params["params"]["embedding"][:, 0] = 100.0  # the rows of padding are never read
    np.testing.assert_array_equal(apply(params, row)[row["text_segment_ids"] > 0], one)


def test_every_byte_of_a_word_is_heard_at_its_place():
    texts = [(ByteWords().encode(text, 8),) for text in ("ball", "bell", "llab")]
    row = batch(texts)
    module, params = trained(TextEmbedderConfig(ids=16, vocabulary=258, refiner=TextRefinerConfig(depth=0)), row)
    found = jax.jit(lambda: module.apply(params, *inputs(row)))()[row["text_segment_ids"] > 0][1::2]
    assert min(np.abs(found[i] - found[j]).max() for i in range(3) for j in range(i)) > 0.05


def test_a_new_embedder_gives_numbers_of_about_unit_size():
    for config, texts in ((WORDS, words()), (ENCODED, encoded())):
        row = batch(texts)
        out, _ = jax.jit(TextEmbedder(config, 64).init_with_output)(jax.random.key(0), *inputs(row))
        assert 0.2 < np.std(out[row["text_segment_ids"] > 0]) < 2


@pytest.mark.parametrize(("config", "texts"), [(WORDS, words()), (ENCODED, encoded())], ids=["words", "encoders"])
def test_flops_are_those_of_the_matrix_products(config, texts):
    """One text that fills its row, so that XLA's own count is comparable."""
    row = batch([tuple(jnp.concatenate([part] * 8)[:8] for part in texts[0])])
    module = TextEmbedder(config, 64)
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs(row))
    counted = jax.jit(module.apply).lower(params, *inputs(row)).compile().cost_analysis()["flops"]
    length = row["text_segment_ids"].shape[1]
    owed = forward_flops(config, 64, [8] * len(config.parts), length**2)
    assert 0.7 < owed / counted < 1.0  # the rest is element-wise


def test_text_is_ids_or_embeddings():
    with pytest.raises(UserError, match="expected one of the two"):
        TextEmbedderConfig()
    with pytest.raises(UserError, match="expected one of the two"):
        TextEmbedderConfig(vocabulary=3, widths=(2,))

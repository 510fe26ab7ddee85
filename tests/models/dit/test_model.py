"""The packed transformer: clips of one row know nothing of each other, and what only saves time or memory changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.core.segments import PATCH
from videodit.data.packing import concatenate_rows, length_of, tokens_of
from videodit.models.dit.model import DiT, DiTConfig, forward_flops
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.refiner import TextRefinerConfig

CONFIG = DiTConfig(width=32, depth=2, heads=2)
CHANNELS, VOCABULARY, LENGTH = 4, 20, 48
TEXT = TextEmbedderConfig(ids=3, vocabulary=VOCABULARY, refiner=TextRefinerConfig(depth=1, heads=2))
SIZES = [(3, 2, 3), (1, 2, 2), (2, 3, 2)]  # latents of a video, an image and a video


def sample(number, size):
    random = np.random.default_rng(number)
    words = random.integers(1, VOCABULARY, (2 + number, 3), np.int32)
    return tokens_of(random.normal(size=(*size, CHANNELS)).astype(np.float32), [words], (1, 1, 1), number)


SAMPLES = [sample(number, size) for number, size in enumerate(SIZES)]


def levels_of(row):
    """A noise level of its own for every token."""
    return jnp.where(row["segment_ids"] > 0, jax.random.uniform(jax.random.key(7), row["segment_ids"].shape), 0.0)


def trained(config, seed=0):
    """A model whose zeroed outputs are not zero any more."""
    model = DiT(config, CHANNELS, TEXT)
    row = packed([SAMPLES])
    shapes = jax.eval_shape(model.init, jax.random.key(seed), row["patches"], levels_of(row), row)
    return model, filled(shapes, np.random.default_rng(seed))


def filled(shapes, random):
    """Parameters of about the size that training gives them: no matrix is zero, vectors are near one."""
    draw = lambda leaf: (
        random.normal(size=leaf.shape) / np.sqrt(leaf.shape[-2]) if len(leaf.shape) > 1 else random.uniform(0.5, 1.5, leaf.shape)
    )
    return jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), shapes)


def packed(rows, length=LENGTH):
    return {name: jnp.asarray(value) for name, value in concatenate_rows(rows, length, [16]).items()}


@pytest.fixture(scope="module")
def model():
    return trained(CONFIG)


@pytest.fixture(scope="module")
def apply(model):
    return jax.jit(lambda patches, levels, row: model[0].apply(model[1], patches, levels, row))


def part(array, row, segment):
    return np.asarray(array)[0, np.asarray(row["segment_ids"][0] == segment)]


def test_a_clip_packed_alone_or_among_others_has_the_same_outputs(apply):
    together = packed([SAMPLES])
    levels = levels_of(together)
    found = apply(together["patches"], levels, together)
    for number, each in enumerate(SAMPLES, start=1):
        alone = packed([[each]])
        count = length_of(each)
        out = apply(alone["patches"], jnp.zeros_like(levels).at[0, :count].set(part(levels, together, number)), alone)
        np.testing.assert_allclose(out[0, :count], part(found, together, number), atol=1e-5)
        assert np.abs(out[0, :count]).max() > 0.1


def test_the_order_of_clips_in_a_row_changes_nothing(apply):
    rows = packed([SAMPLES]), packed([SAMPLES[::-1]])
    found = [apply(row["patches"], 0.5 * (row["segment_ids"] > 0), row) for row in rows]
    for number in (1, 2, 3):
        np.testing.assert_allclose(part(found[0], rows[0], number), part(found[1], rows[1], 4 - number), atol=1e-5)


def test_the_gradient_of_a_clips_loss_with_respect_to_anothers_tokens_is_exactly_zero(model):
    module, params = model
    row = packed([SAMPLES])

    def loss(patches, levels, embedding):
        own = {"params": {**params["params"], "text_embed": {**params["params"]["text_embed"], "embedding": embedding}}}
        return (jnp.square(module.apply(own, patches, levels, row)) * (row["segment_ids"] == 2)[..., None]).sum()

    embedding = params["params"]["text_embed"]["embedding"]
    patches, levels, words = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(row["patches"], levels_of(row), embedding)
    own = np.asarray(row["segment_ids"] == 2)
    is_patch = np.asarray(row["modality"] == 2)
    assert (patches[~own] == 0).all() and (levels[~own] == 0).all()
    assert (np.abs(patches[own & is_patch]).max(axis=-1) > 0).all() and (levels[own] != 0).all()
    own_words = np.asarray(row["text_0"])[np.asarray(row["text_segment_ids"] == 2)]
    used = np.zeros((3, VOCABULARY), bool)
    used[np.arange(3), own_words] = True
    assert (words[~used] == 0).all() and (np.abs(words[used]).max(axis=-1) > 0).all()


def test_padding_changes_nothing(apply):
    short, long = packed([SAMPLES]), packed([SAMPLES, []], LENGTH + 16)
    levels = levels_of(short)
    found = apply(short["patches"], levels, short)
    junk = long | {"patches": jnp.where((long["segment_ids"] > 0)[..., None], long["patches"], 100.0)}
    padded = apply(junk["patches"], jnp.zeros((2, LENGTH + 16)).at[:1, :LENGTH].set(levels), junk)
    real = np.asarray(short["segment_ids"][0] > 0)
    np.testing.assert_allclose(padded[0, :LENGTH][real], found[0][real], atol=1e-5)


def test_a_noise_level_reaches_its_own_clip_and_no_other(apply):
    row = packed([SAMPLES])
    levels = 0.5 * (row["segment_ids"] > 0)
    token = int(np.flatnonzero((row["segment_ids"][0] == 2) & (row["modality"][0] == 2))[0])
    before, after = apply(row["patches"], levels, row), apply(row["patches"], levels.at[0, token].set(0.9), row)
    np.testing.assert_array_equal(part(before, row, 1), part(after, row, 1))
    np.testing.assert_array_equal(part(before, row, 3), part(after, row, 3))
    assert (np.abs(part(before, row, 2) - part(after, row, 2)).max(axis=-1) > 1e-6).all()


def test_words_positions_and_size_are_heard(apply):
    row = packed([SAMPLES])
    levels = levels_of(row)
    found = apply(row["patches"], levels, row)
    double = lambda x: 2 * x
    changes = {"text_0": lambda x: (x + 1) % VOCABULARY, "text_positions": double, "positions": double, "extent": lambda x: x + 1}
    for name, change in changes.items():
        assert np.abs(found - apply(row["patches"], levels, row | {name: change(row[name])})).max() > 1e-4, name


def test_remat_unroll_and_the_form_of_attention_change_neither_outputs_nor_gradients(model):
    row = packed([SAMPLES])

    def loss_of(**change):
        module = DiT(dataclasses.replace(CONFIG, **change), CHANNELS, TEXT)
        real = (row["segment_ids"] > 0)[..., None]  # what padding gives has no meaning
        loss = lambda params: (jnp.square(module.apply(params, row["patches"], levels_of(row), row)) * real).mean()
        return jax.jit(jax.value_and_grad(loss))(model[1])

    plain, gradients = loss_of()
    for change in ({"remat": "full"}, {"remat": "named"}, {"unroll": 2}, {"attention": "blocked"}):
        changed, others = loss_of(**change)
        np.testing.assert_allclose(plain, changed, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, others)


def test_swiglu_has_as_many_parameters_and_its_flops_are_counted():
    count = lambda config: sum(leaf.size for leaf in jax.tree.leaves(trained(config)[1]))
    gated = dataclasses.replace(CONFIG, width=192, heads=4)
    plain = dataclasses.replace(gated, mlp="gelu")
    assert count(gated) == pytest.approx(count(plain), rel=0.01) and gated.mlp_width == 512
    assert forward_flops(gated, CHANNELS, 5, 40, 900) == pytest.approx(forward_flops(plain, CHANNELS, 5, 40, 900), rel=0.01)
    module, params = trained(dataclasses.replace(CONFIG, mlp="gelu"))
    row = packed([SAMPLES])
    assert np.abs(jax.jit(module.apply)(params, row["patches"], levels_of(row), row)).max() > 0.1


def test_a_new_model_predicts_zero():
    module = DiT(CONFIG, CHANNELS, TEXT)
    row = packed([SAMPLES])
    out, _ = jax.jit(lambda key: module.init_with_output(key, row["patches"], levels_of(row), row))(jax.random.key(0))
    assert out.shape == (1, LENGTH, CHANNELS) and (out == 0).all()


def test_bfloat16_runs_and_predicts_in_float32(model):
    row = packed([SAMPLES])
    module = DiT(dataclasses.replace(CONFIG, dtype="bfloat16"), CHANNELS, TEXT)
    found = jax.jit(module.apply)(model[1], row["patches"], levels_of(row), row)
    exact = jax.jit(DiT(CONFIG, CHANNELS, TEXT).apply)(model[1], row["patches"], levels_of(row), row)
    real = np.asarray(row["segment_ids"] > 0)
    assert found.dtype == jnp.float32
    assert np.abs(found - exact)[real].mean() < 0.05 * np.abs(exact)[real].mean()


def test_parameters_are_those_of_one_block_times_the_depth(model):
    shapes = {tuple(str(key.key) for key in path)[1:]: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(model[1])}
    assert shapes["blocks", "qkv", "kernel"] == (2, 32, 3, 2, 16)
    assert shapes["blocks", "up", "kernel"] == (2, 32, 2, 128)
    assert shapes["blocks", "attention_out", "kernel"] == (2, 32, 32)
    assert shapes["blocks", "down", "kernel"] == (2, 128, 32)
    assert shapes["head", "kernel"] == (32, CHANNELS)


def test_flops_are_those_of_the_matrix_products():
    # One row of 16 patch tokens in one segment, so that masked pairs are none and XLA's own count is comparable.
    config = DiTConfig(width=64, depth=2, heads=2, unroll=2)
    module = DiT(config, CHANNELS, TextEmbedderConfig(vocabulary=VOCABULARY, refiner=TextRefinerConfig(depth=0)))
    row = packed([[tokens_of(np.zeros((4, 2, 2, CHANNELS), np.float32), [np.zeros((0, 1), np.int32)], (1, 1, 1))]], 16)
    params = jax.eval_shape(module.init, jax.random.key(0), row["patches"], levels_of(row), row)
    counted = jax.jit(module.apply).lower(params, row["patches"], levels_of(row), row).compile().cost_analysis()["flops"]
    owed = forward_flops(config, CHANNELS, text_tokens=0, patch_tokens=16, pairs=16 * 16)
    assert 0.8 < owed / counted < 1.0  # the rest is element-wise


def test_a_width_that_heads_do_not_divide_is_named():
    with pytest.raises(UserError, match="dit.width=30 with dit.heads=4"):
        DiTConfig(width=30, heads=4)


def test_frames_stand_at_their_times_whatever_the_rate(model):
    module, params = model
    kernel = params["params"]["condition_in"]["kernel"]
    untold = kernel * (np.arange(len(kernel)) < len(kernel) - 1)[:, None]  # the rate is the last that adaLN is told
    params = {"params": params["params"] | {"condition_in": params["params"]["condition_in"] | {"kernel": untold}}}
    row = packed([SAMPLES])
    run = lambda row: module.apply(params, row["patches"], levels_of(row), row)
    patches = row["modality"] == PATCH
    later = jnp.where(patches[..., None], row["positions"] * jnp.array([2, 1, 1]), row["positions"])
    twice_as_long = row | {"time_step": row["time_step"] * 2}
    np.testing.assert_allclose(run(twice_as_long), run(row | {"positions": later}), atol=1e-5)
    assert jnp.abs(run(twice_as_long) - run(row))[patches].max() > 1e-3


def test_the_rate_is_told_to_the_model_of_videos_alone(model):
    module, params = model
    latents = np.random.default_rng(0).normal(size=(3, 2, 2, CHANNELS)).astype(np.float32)
    words = [np.ones((2, 3), np.int32)]

    def run(latents, time_step):
        row = packed([[tokens_of(latents, words, (1, 1, 1), time_step=time_step)]])
        return module.apply(params, row["patches"], levels_of(row), row)

    assert jnp.abs(run(latents, 1.0) - run(latents, 2.0)).max() > 1e-3
    np.testing.assert_array_equal(run(latents[:1], 1.0), run(latents[:1], 2.0))

"""The refiner over packed rows: a text sees itself alone, and packed or alone comes out the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from videodit.core.errors import UserError
from videodit.models.text.refiner import TextRefiner, TextRefinerConfig, forward_flops

CONFIG = TextRefinerConfig(depth=2, heads=2)
WIDTH = 16
LENGTHS = (5, 9, 3)


@functools.cache
def new_params():
    tokens = jnp.zeros((1, 4), int)
    return jax.jit(TextRefiner(CONFIG).init)(jax.random.key(0), jnp.zeros((1, 4, WIDTH)), tokens, tokens)["params"]


def random_params():
    """As after training: nothing is zero."""
    made = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: np.float32(made.normal(leaf.ndim == 1, 0.3, leaf.shape)), new_params())


def row(lengths=LENGTHS, gap=2, length=24):
    """Texts in one row with `gap` tokens that are no text after each, and padding to `length`: as texts stand before their patches."""
    segments, positions, start = np.zeros((1, length), np.int32), np.zeros((1, length), np.int32), 0
    for number, each in enumerate(lengths, start=1):
        segments[0, start : start + each], positions[0, start : start + each] = number, np.arange(each)
        start += each + gap
    return segments, positions


@functools.partial(jax.jit, static_argnames="config")
def refine(params, x, segments, positions, config=CONFIG):
    return TextRefiner(config).apply({"params": params}, x, segments, positions)


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(2), (1, 24, WIDTH))


def test_a_new_refiner_hands_on_what_it_is_given(x):
    segments, positions = row()
    np.testing.assert_array_equal(refine(new_params(), x, segments, positions), x)
    assert np.abs(refine(random_params(), x, segments, positions) - x).mean() > 0.1


def test_a_text_comes_out_packed_as_alone(x):
    params, (segments, positions) = random_params(), row()
    packed = refine(params, x, segments, positions)
    for number, length in enumerate(LENGTHS, start=1):
        at = segments[0] == number
        alone = refine(params, x[:, at], jnp.ones((1, length), int), 100 + jnp.arange(length)[None])  # only differences of places matter
        np.testing.assert_allclose(packed[:, at], alone, atol=1e-5)


def test_no_text_sees_another_nor_padding(x):
    params, (segments, positions) = random_params(), row()
    own = segments[0] == 2
    gradient = jax.grad(lambda x: jnp.square(refine(params, x, segments, positions)[:, own]).sum())(x)
    assert (gradient[:, ~own] == 0).all() and (np.abs(gradient[:, own]).sum(-1) > 0).all()


def test_a_text_sees_all_of_itself_in_order(x):
    params, (segments, positions) = random_params(), row((24,), 0)
    out = refine(params, x, segments, positions)
    changed = refine(params, x.at[0, -1].add(1.0), segments, positions)
    assert (np.abs(changed - out).max(-1) > 1e-6).all()
    turned = refine(params, x[:, ::-1], segments, positions)[:, ::-1]
    assert np.abs(turned - out).mean() > 1e-2


def test_a_row_of_padding_is_finite(x):
    assert np.isfinite(refine(random_params(), x, *row(()))).all()


def test_bfloat16_stays_near(x):
    params, (segments, positions) = random_params(), row()
    config = TextRefinerConfig(depth=2, heads=2, dtype="bfloat16")
    out, near = refine(params, x, segments, positions), refine(params, x, segments, positions, config)
    at = segments[0] > 0
    assert near.dtype == x.dtype and 0 < np.abs(near - out)[:, at].mean() < 0.05 * np.abs(out[:, at]).mean()


def test_it_learns_what_a_token_alone_cannot_tell():
    """Each token is to tell the one before it."""
    ids = jax.random.randint(jax.random.key(3), (32, 12), 0, 8)
    x = jax.nn.one_hot(ids, WIDTH)
    target = jnp.roll(ids, 1, axis=1)
    ones, places = jnp.ones_like(ids), jnp.broadcast_to(jnp.arange(12), ids.shape)
    params, optimizer = new_params(), optax.adam(1e-2)

    def loss(params):
        logits = refine(params, x, ones, places)[:, 1:, 8:]
        return optax.softmax_cross_entropy_with_integer_labels(logits, target[:, 1:]).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for _ in range(200):
        params, state, value = step(params, state)
    assert loss(new_params()) == pytest.approx(np.log(8), abs=1e-3)
    assert value < 0.5


def test_flops_are_those_of_its_matrix_products():
    params = random_params()
    kernels = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    assert forward_flops(CONFIG, WIDTH, tokens=7, pairs=0) == 2 * 7 * kernels
    assert forward_flops(CONFIG, WIDTH, tokens=0, pairs=10) == 4 * 10 * WIDTH * CONFIG.depth


def test_heads_that_do_not_divide_the_width_are_told(x):
    with pytest.raises(UserError, match="3 heads for 16 channels"):
        refine({}, x, *row(), TextRefinerConfig(heads=3))

"""The process: what is predicted and what is asked agree, noise levels are drawn where the config says, and errors weigh what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.diffusion.process import ProcessConfig, corrupt, draw_noise_levels, flow_loss, level_weight, to_velocity
from videodit.diffusion.shift import ShiftConfig, shift_noise

# Two rows of 7 tokens: samples of 1, 2 and 3 tokens and padding, and one of 7.
IDS = jnp.array([[1, 2, 2, 3, 3, 3, 0], [1] * 7])
EVERY = IDS > 0


@pytest.fixture(scope="module")
def tokens():
    """Clean tokens, noise and levels."""
    clean, noise = jax.random.normal(jax.random.key(0), (2, 2, 7, 4))
    return clean, noise, jax.random.uniform(jax.random.key(1), (2, 7), minval=0.05, maxval=0.95)


def drawn(rows, samples, key=0, **config):
    """One level a sample, `samples` in each of `rows` rows."""
    ids = jnp.tile(jnp.arange(1, samples + 1), (rows, 1))
    return draw_noise_levels(jax.random.key(key), ids, jnp.ones((rows, samples, 3), jnp.int32), ProcessConfig(**config))


def loss(velocity, clean, noise, level, counted=EVERY, ids=IDS, **config):
    error, share = flow_loss(velocity, clean, noise, level, counted, ids, ProcessConfig(**config))
    return float(error.sum()), float(share.sum())


def test_noise_level_zero_is_clean_and_one_is_noise(tokens):
    clean, noise, level = tokens
    np.testing.assert_array_equal(corrupt(clean, noise, jnp.zeros_like(level)), clean)
    np.testing.assert_array_equal(corrupt(clean, noise, jnp.ones_like(level)), noise)


def test_velocity_is_the_slope_of_the_path(tokens):
    clean, noise, level = tokens
    _, slope = jax.jvp(lambda t: corrupt(clean, noise, t), (level,), (jnp.ones_like(level),))
    np.testing.assert_allclose(slope, noise - clean, atol=1e-6)


@pytest.mark.parametrize("prediction", ["velocity", "clean", "noise"])
def test_an_exact_prediction_is_the_exact_velocity_and_has_no_loss(tokens, prediction):
    clean, noise, level = tokens
    exact = {"velocity": noise - clean, "clean": clean, "noise": noise}[prediction]
    velocity = to_velocity(exact, corrupt(clean, noise, level), level, ProcessConfig(prediction=prediction))
    np.testing.assert_allclose(velocity, noise - clean, atol=1e-4)
    assert loss(velocity, clean, noise, level)[0] < 1e-6


@pytest.mark.parametrize(("prediction", "end"), [("clean", 0.0), ("noise", 1.0)])
def test_a_prediction_where_it_says_nothing_gives_a_finite_velocity(tokens, prediction, end):
    clean, _, level = tokens
    assert jnp.isfinite(to_velocity(clean + 1, clean, jnp.full_like(level, end), ProcessConfig(prediction=prediction))).all()


def test_only_counted_tokens_enter_the_loss(tokens):
    clean, noise, level = tokens
    counted = jnp.zeros_like(level).at[0, 3:5].set(1) > 0
    wrong = (noise - clean + 2.0).at[0, 5:].set(1e9)
    np.testing.assert_allclose(loss(wrong, clean, noise, level, counted), (8.0, 2.0), rtol=1e-5)


@pytest.mark.parametrize("size", ["token", "sample"])
def test_balance_goes_from_equal_tokens_to_equal_samples(tokens, size):
    clean, noise, level = tokens
    error = jnp.where(IDS == 3, 5.0, jnp.where(IDS == 2, 3.0, 1.0))  # squared: 1, 9, 25 and 1 for samples of 1, 2, 3 and 7 tokens
    total, weight = loss(noise - clean + error[..., None], clean, noise, level, balance=float(size == "sample"))
    wanted = (1 * 1 + 2 * 9 + 3 * 25 + 7 * 1) / 13 if size == "token" else (1 + 9 + 25 + 1) / 4
    np.testing.assert_allclose(total / weight, wanted, rtol=1e-5)


def test_balance_counts_the_noised_tokens_of_a_sample_alone(tokens):
    clean, noise, level = tokens
    counted = EVERY.at[1, 2:].set(False)  # of the sample of 7, 2 are noised
    assert loss(noise, clean, noise, level, counted, balance=1.0)[1] == pytest.approx(4.0)
    assert loss(noise, clean, noise, level, counted, balance=0.5)[1] == pytest.approx(1 + 2 * 2**0.5 + 3**0.5, rel=1e-6)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_sums_of_rows_apart_are_the_sums_of_the_batch(tokens, balance):
    """Rows may lie on any device."""
    clean, noise, level = tokens
    config = {"balance": balance, "weight": "min-snr"}
    whole = loss(jnp.zeros_like(clean), clean, noise, level, **config)
    rows = [loss(*(each[row : row + 1] for each in (jnp.zeros_like(clean), clean, noise, level, EVERY, IDS)), **config) for row in (0, 1)]
    np.testing.assert_allclose(whole, np.sum(rows, axis=0), rtol=1e-6)


def test_min_snr_on_velocities_is_min_snr_on_clean_patches(tokens):
    clean, noise, level = tokens
    noised, gamma = corrupt(clean, noise, level), 5.0
    velocity = noise - clean + jax.random.normal(jax.random.key(2), clean.shape)
    predicted = noised - level[..., None] * velocity
    weight = jnp.minimum(jnp.square((1 - level) / level), gamma)
    wanted = (weight * jnp.square(predicted - clean).mean(axis=-1) * EVERY).sum()
    total, count = loss(velocity, clean, noise, level, weight="min-snr")
    np.testing.assert_allclose(total, wanted, rtol=1e-4)
    assert count == EVERY.sum()
    most = np.argmax(level_weight(jnp.linspace(0, 1, 1001), ProcessConfig(weight="min-snr"))) / 1000
    np.testing.assert_allclose(most, 1 / (1 + gamma**0.5), atol=1e-3)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize(("mean", "shift", "median"), [(0.0, 1.0, 0.5), (0.0, 3.0, 0.75), (1.0, 1.0, 0.7311)])
def test_noise_levels_lie_inside_zero_and_one_with_the_median_asked_for(mean, shift, median, stratified):
    levels = drawn(100, 200, noise_mean=mean, shift=shift, stratified=stratified)
    assert 0 < levels.min() and levels.max() < 1
    np.testing.assert_allclose(jnp.median(levels), median, atol=0.01)


def test_uniform_levels_are_uniform():
    np.testing.assert_allclose(np.sort(drawn(1, 5000, draw="uniform")[0]), (np.arange(5000) + 0.5) / 5000, atol=0.03)


def test_a_wider_draw_reaches_nearer_to_the_ends():
    spread = [float(drawn(10, 500, noise_std=std).std()) for std in (0.5, 1.0, 2.0)]
    assert spread == sorted(spread)


def test_a_sample_has_one_level_and_padding_none():
    levels = np.asarray(draw_noise_levels(jax.random.key(0), IDS, jnp.ones((2, 7, 3), jnp.int32), ProcessConfig()))
    assert len({levels[0, 0], *levels[0, 1:3], *levels[0, 3:6], *levels[1]}) == 4 and levels[0, 6] == 0


@pytest.mark.parametrize("draw", ["uniform", "logit-normal"])
def test_stratified_samples_of_a_batch_take_equal_shares_of_the_distribution(draw):
    ids = jnp.array([[1, 1, 2, 3, 0, 0], [1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])  # 6 samples
    starts = jnp.array([0, 2, 3, 6, 7, 12])
    for key in range(20):
        levels = draw_noise_levels(jax.random.key(key), ids, jnp.ones((3, 6, 3), jnp.int32), ProcessConfig(draw=draw, stratified=True))
        share = levels if draw == "uniform" else jax.scipy.stats.norm.cdf(jax.scipy.special.logit(levels))
        apart = np.diff(np.sort(share.reshape(-1)[starts]))
        assert apart.max() <= 2 / 6 + 1e-4  # no share of a sixth is left out


def test_stratified_levels_of_every_place_are_those_of_the_distribution():
    """No place in a batch, and so no size of clip, owns a range of levels."""
    levels = jax.vmap(
        lambda key: draw_noise_levels(key, IDS, jnp.ones((2, 7, 3), jnp.int32), ProcessConfig(draw="uniform", stratified=True))
    )(jax.random.split(jax.random.key(0), 2000))
    for place in ((0, 0), (0, 1), (0, 3), (1, 0)):
        np.testing.assert_allclose(np.sort(levels[:, *place]), (np.arange(2000) + 0.5) / 2000, atol=0.05)


def test_a_shift_by_size_moves_each_sample_by_its_own(tokens):
    extent = jnp.array([[(1, 16, 16)] * 3 + [(1, 64, 64)] * 3 + [(0, 0, 0)], [(9, 16, 16)] * 7])
    plain, shifted = (draw_noise_levels(jax.random.key(0), IDS, extent, ProcessConfig(shift=shift)) for shift in (1.0, ShiftConfig()))
    factor = jnp.array([[1.0] * 3 + [3.0] * 4, [3.0] * 7])
    np.testing.assert_allclose(shifted, shift_noise(plain, factor), rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"shift": 0.5}, {"noise_std": 0.0}, {"min_snr_gamma": -1.0}, {"balance": 2.0}]
)
def test_a_wrong_config_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"process.{name}"):
        ProcessConfig(**wrong)

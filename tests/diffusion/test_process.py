"""The process: what is predicted and what is asked agree, and noise levels are drawn where the config says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.diffusion.process import ProcessConfig, corrupt, draw_noise_levels, flow_loss, shift_noise, to_velocity


@pytest.fixture(scope="module")
def tokens():
    """Clean tokens, noise and levels."""
    clean, noise = jax.random.normal(jax.random.key(0), (2, 3, 7, 4))
    return clean, noise, jax.random.uniform(jax.random.key(1), (3, 7), minval=0.05, maxval=1.0)


def test_noise_level_zero_is_clean_and_one_is_noise(tokens):
    clean, noise, level = tokens
    np.testing.assert_array_equal(corrupt(clean, noise, jnp.zeros_like(level)), clean)
    np.testing.assert_array_equal(corrupt(clean, noise, jnp.ones_like(level)), noise)


def test_velocity_is_the_slope_of_the_path(tokens):
    clean, noise, level = tokens
    _, slope = jax.jvp(lambda t: corrupt(clean, noise, t), (level,), (jnp.ones_like(level),))
    np.testing.assert_allclose(slope, noise - clean, atol=1e-6)


def test_exact_clean_and_velocity_predictions_are_the_same_velocity(tokens):
    clean, noise, level = tokens
    noised = corrupt(clean, noise, level)
    from_clean = to_velocity(clean, noised, level, ProcessConfig(prediction="clean"))
    from_velocity = to_velocity(noise - clean, noised, level, ProcessConfig(prediction="velocity"))
    np.testing.assert_allclose(from_clean, from_velocity, atol=1e-4)
    np.testing.assert_allclose(flow_loss(from_clean, clean, noise, jnp.ones_like(level))[0], 0.0, atol=1e-6)


def test_a_clean_prediction_at_level_zero_gives_a_finite_velocity(tokens):
    clean, noise, level = tokens
    assert jnp.isfinite(to_velocity(clean + 1, clean, jnp.zeros_like(level), ProcessConfig(prediction="clean"))).all()


def test_only_counted_tokens_enter_the_loss(tokens):
    clean, noise, level = tokens
    counted = jnp.zeros_like(level).at[0, :2].set(1)
    velocity = noise - clean + 2.0
    total, count = flow_loss(velocity.at[0, 2:].set(1e9), clean, noise, counted > 0)
    np.testing.assert_allclose((total, count), (8.0, 2.0), rtol=1e-5)


@pytest.mark.parametrize(("mean", "shift", "median"), [(0.0, 1.0, 0.5), (0.0, 3.0, 0.75), (1.0, 1.0, 0.7311)])
def test_noise_levels_lie_inside_zero_and_one_with_the_median_asked_for(mean, shift, median):
    levels = draw_noise_levels(jax.random.key(0), (20_000,), ProcessConfig(noise_mean=mean, shift=shift))
    assert 0 < levels.min() and levels.max() < 1
    np.testing.assert_allclose(jnp.median(levels), median, atol=0.01)


def test_a_wider_draw_reaches_nearer_to_the_ends():
    spread = [float(draw_noise_levels(jax.random.key(0), (5000,), ProcessConfig(noise_std=std)).std()) for std in (0.5, 1.0, 2.0)]
    assert spread == sorted(spread)


def test_the_shift_keeps_the_ends_and_the_order():
    levels = jnp.linspace(0, 1, 11)
    shifted = shift_noise(levels, 4.0)
    assert shifted[0] == 0 and shifted[-1] == 1 and (jnp.diff(shifted) > 0).all() and (shifted[1:-1] > levels[1:-1]).all()
    np.testing.assert_array_equal(shift_noise(levels, 1.0), levels)


@pytest.mark.parametrize("wrong", [{"prediction": "noise"}, {"shift": 0.5}])
def test_a_wrong_config_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        ProcessConfig(**wrong)

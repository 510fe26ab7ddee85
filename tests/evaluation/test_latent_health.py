"""Latent health is the moments, the KL and the correlation of the latents that were counted, however they came in parts."""

import math

import numpy as np
import pytest

from videodit.evaluation.latent_health import LatentHealth


def gaussians(n=20_000, seed=0):
    """Three channels: one of mean 1 and deviation 2, one that follows it half the way, and one that is the prior."""
    draw = np.random.default_rng(seed).normal(size=(n, 2))
    first = 1 + 2 * draw[:, 0]
    mean = np.stack([first, 0.5 * draw[:, 0] + math.sqrt(0.75) * draw[:, 1], np.zeros(n)], axis=-1)
    return mean.astype(np.float32), np.broadcast_to(np.float32([-4.0, -2.0, 0.0]), mean.shape)


def health(mean, log_variance, parts=1, pixels=64):
    found = LatentHealth(mean.shape[-1])
    for m, v in zip(np.array_split(mean, parts), np.array_split(log_variance, parts)):
        found.add(m, v, pixels * len(m))
    return found.figures()


def test_channels_are_told_by_their_moments():
    found = health(*gaussians())
    np.testing.assert_allclose(found["mean"], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(found["std"], [2, 1, 0], atol=0.05)
    np.testing.assert_allclose(found["noise"], np.exp([-2.0, -1.0, 0.0]), rtol=1e-6)


def test_kl_is_that_of_the_formula_and_counts_for_pixels():
    mean, log_variance = gaussians()
    found = health(mean, log_variance)
    by_formula = [0.5 * (m2 + math.exp(v) - 1 - v) for m2, v in zip((5, 1, 0), (-4.0, -2.0, 0.0))]
    np.testing.assert_allclose(found["kl_nats"], by_formula, rtol=0.03)
    assert found["kl_bits_per_pixel"] == pytest.approx(sum(found["kl_nats"]) / math.log(2) / 64)


def test_a_channel_at_the_prior_is_dead():
    assert health(*gaussians())["dead"] == [2]
    mean, log_variance = gaussians()
    mean[:, 2] = 0.2  # 0.02 nats
    assert health(mean, log_variance)["dead"] == []


def test_correlation_is_of_the_pair_that_shares_most():
    found = health(*gaussians())["correlation"]
    assert found["pair"] == [0, 1] and found["most"] == found["mean"] == pytest.approx(0.5, abs=0.03)
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5)) + 3
    wanted = np.abs(np.corrcoef(mean.T))[np.triu_indices(5, 1)]
    found = health(mean, np.zeros_like(mean))["correlation"]
    assert (found["mean"], found["most"]) == (pytest.approx(wanted.mean()), pytest.approx(wanted.max()))


def test_one_channel_correlates_with_none():
    mean, log_variance = gaussians()
    assert health(mean[:, :1], log_variance[:, :1])["correlation"] == {"mean": 0.0, "most": 0.0, "pair": None}


def test_parts_count_as_the_whole():
    whole, parts = health(*gaussians(1000)), health(*gaussians(1000), parts=7)
    for name in ("mean", "std", "noise", "kl_nats"):
        np.testing.assert_allclose(whole[name], parts[name], atol=1e-9)
    assert whole["kl_bits_per_pixel"] == pytest.approx(parts["kl_bits_per_pixel"])

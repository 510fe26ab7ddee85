"""Intervals are those of the textbooks, and those of clustered clips are as wide as their prompts make them."""

import numpy as np
import pytest

from videodit.evaluation.judge.intervals import bootstrap, estimate, wilson


def test_wilson_is_what_the_formula_gives():
    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson(500, 500)[1] == 1 and wilson(0, 500)[0] == 0
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_a_bootstrap_of_single_values_is_close_to_the_normal_interval():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    reach = 1.96 * values.std() / 20
    assert bootstrap(values, range(400)) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)


def test_equal_clips_of_a_prompt_count_once():
    once = [0.0, 1.0] * 20
    low, high = bootstrap(np.repeat(once, 10), np.repeat(range(40), 10))
    assert (low, high) == pytest.approx(bootstrap(once, range(40)), abs=0.03)
    alone = bootstrap(np.repeat(once, 10), range(400))
    assert high - low > 2.5 * (alone[1] - alone[0])


def test_where_all_are_right_the_interval_is_that_of_the_prompts():
    found = estimate([1.0] * 40, np.repeat(range(10), 4))
    assert (found.share, found.n) == (1.0, 40) and (found.low, found.high) == pytest.approx(wilson(10, 10))
    assert estimate([1, 0, 1, 1]).low == pytest.approx(wilson(3, 4)[0])


def test_equal_seeds_give_equal_intervals():
    values, clusters = np.random.default_rng(0).random(60), np.repeat(range(20), 3)
    assert bootstrap(values, clusters, seed=3) == bootstrap(values, clusters, seed=3) != bootstrap(values, clusters, seed=4)

"""Which steps count is a pure function of what they measured and of the steps before."""

import jax
import numpy as np
import pytest

from videodit.training.config import SurvivalConfig
from videodit.training.guard import choose, init_guard, judge


def run(norms, losses=None, **settings):
    """(which steps count, the last guard)."""
    config, guard, good = SurvivalConfig(**settings), init_guard(), []
    for number, norm in enumerate(norms):
        told = {"loss": np.float32(losses[number] if losses else 1.0), "grad_norm": np.float32(norm)}
        each, guard = jax.jit(judge, static_argnums=2)(guard, jax.tree.map(jax.numpy.asarray, told), config)
        good.append(bool(each))
    return good, jax.device_get(guard)


def test_the_average_follows_the_norms_of_the_steps_that_count():
    _, guard = run([1.0, 2.0, 3.0, np.inf, 6.0], window=10)
    assert guard["norm"] == pytest.approx(3.0) and (guard["seen"], guard["skipped"], guard["in_a_row"]) == (4, 1, 0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_count_whatever_it_is_that(wrong):
    assert run([1.0, wrong, 1.0])[0] == run([1.0, 1.0, 1.0], [1.0, wrong, 1.0])[0] == [True, False, True]


def test_a_leap_counts_until_there_is_an_average_and_with_no_bound():
    norms = [1.0, 100.0, 1.0, 1.0, 2000.0, 1.0]
    assert run(norms, window=4)[0] == [True, True, True, True, False, True]
    assert all(run(norms, window=4, spike=0.0)[0])
    assert all(run(norms, window=40)[0])


def test_each_leap_doubles_the_average_so_that_a_lasting_one_is_taken_for_granted():
    good, guard = run([1.0] * 4 + [70.0] * 5, window=4, spike=20.0)
    assert good == [True] * 4 + [False, False] + [True] * 3 and guard["in_a_row"] == 0


def test_in_a_row_is_counted_from_the_last_that_counted():
    assert run([1.0, np.nan, 1.0, np.nan, np.nan])[1]["in_a_row"] == 2


def test_all_of_a_tree_or_nothing_of_it_is_chosen():
    old, new = {"a": np.zeros(2), "b": [np.int32(3)]}, {"a": np.full(2, np.nan), "b": [np.int32(4)]}
    assert jax.tree.all(jax.tree.map(np.array_equal, choose(np.bool_(False), new, old), old))
    assert choose(np.bool_(True), new, old)["b"][0] == 4

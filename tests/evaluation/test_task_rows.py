"""Rows of the table of tasks: intervals are Wilson's for shares alone, and an aim asks that intervals do not meet."""

import numpy as np
import pytest

from videodit.evaluation.judge.intervals import wilson
from videodit.evaluation.task_rows import above, below, row


def test_zeros_of_an_error_are_exact_and_zeros_of_a_share_are_not():
    error = row("extend", "position error", {"ours": [0.1, 0.2, 0.3], "true": [0.0, 0.0, 0.0]})
    assert error.true == 0 and error.intervals["true"] == (0, 0)
    assert error.intervals["ours"][0] < 0.2 < error.intervals["ours"][1]
    share = row("extend", "whole clip right", {"ours": [1, 0, 1], "copy": [0, 0, 0]})
    assert share.intervals["copy"] == pytest.approx(wilson(0, 3))


def test_values_that_are_no_numbers_are_left_out():
    found = row("fill", "dB", {"ours": [1.5, np.nan, 2.5], "untrained": [np.nan]})
    assert (found.ours, found.untrained) == (2.0, None)


def test_more_by_chance_is_not_more():
    clear = row("a", "b", {"ours": [5.0, 5.1, 5.2], "copy": [1.0, 1.1, 1.2]}, "above", lambda found: above(found, "copy"))
    chance = row("a", "b", {"ours": [1.0, 9.0, 2.0], "copy": [1.0, 2.0, 8.0]}, "above", lambda found: above(found, "copy"))
    assert clear.reached and not chance.reached


def test_half_of_an_error_is_asked_for():
    of = lambda ours: row("a", "b", {"ours": ours, "copy": [1.0, 1.1]}, "half", lambda found: below(found, "copy", share=0.5)).reached
    assert of([0.4, 0.5]) and not of([0.6, 0.65])

"""Numbers reach their files as they are told, and a rate is a rate."""

import json
import math

import jax.numpy as jnp
import pytest

from videodit.training.metrics import Log, MetricsWriter, clock, matmul_flops_per_second, mean_of


def test_a_log_point_is_a_line_of_json_and_an_event(tmp_path):
    for step in (1, 2):  # a writer a run, as after a kill
        writer = MetricsWriter(tmp_path)
        writer.write(step, {"loss": 0.5 * step})
        writer.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 1.0)] and all(line["time"] > 1e9 for line in lines)
    assert len(list((tmp_path / "metrics").glob("events.*"))) >= 1


def test_the_log_keeps_lines_and_progress_and_shows_progress_only_on_a_terminal(tmp_path, capsys):
    log = Log(tmp_path)
    log.line("begun")
    log.progress("step 1")
    log.close()
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["begun", "step 1"]
    assert capsys.readouterr().err == "begun\n"


def test_means_are_over_steps():
    assert mean_of([{"a": jnp.float32(1), "b": 2.0}, {"a": jnp.float32(3), "b": 2.0}]) == {"a": 2.0, "b": 2.0}
    assert mean_of([]) == {}


def test_a_metric_that_a_step_has_no_number_for_is_the_mean_of_the_others():
    assert mean_of([{"a": 1.0, "b": math.nan}, {"a": math.nan, "b": math.nan}, {"a": 3.0, "b": math.nan}]) == {"a": 2.0}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (61.9, "1:01"), (3661, "1:01:01")])
def test_times_are_written_as_a_clock_shows_them(seconds, text):
    assert clock(seconds) == text


def test_the_matrix_product_has_a_rate():
    assert matmul_flops_per_second(side=64, repeats=2) > 0

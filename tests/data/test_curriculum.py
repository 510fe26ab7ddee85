"""A curriculum says what holds at every step, in straight lines between its points, and refuses what it cannot mean."""

import pytest

from videodit.core.config import read, to_dict
from videodit.core.errors import UserError
from videodit.data.curriculum import Draw, MixtureConfig, Point, SourceConfig, at_step

OTHER = SourceConfig(name="other", path="p", weight=2.0)


def test_without_a_curriculum_the_weights_hold_at_every_step():
    config = MixtureConfig(weight=0.5, sources=(OTHER,))
    assert at_step(config, 0) == at_step(config, 10**6) == Draw(weights=(0.5, 2.0))


def test_values_stand_still_before_the_first_point_and_after_the_last_and_go_straight_between():
    config = MixtureConfig(
        sources=(OTHER,),
        curriculum=(Point(step=100, images=1.0, max_tokens=10), Point(step=300, weights={"other": 4.0}, images=0.2, max_tokens=50)),
    )
    assert at_step(config, 0) == at_step(config, 100) == Draw(weights=(1.0, 2.0), images=1.0, max_tokens=10)
    assert at_step(config, 150) == Draw(weights=(1.0, 2.5), images=pytest.approx(0.8), max_tokens=20)
    assert at_step(config, 300) == at_step(config, 9999) == Draw(weights=(1.0, 4.0), images=0.2, max_tokens=50)


def test_a_limit_of_size_holds_until_the_point_that_has_none():
    config = MixtureConfig(curriculum=(Point(step=0, max_tokens=10), Point(step=100)))
    assert [at_step(config, step).max_tokens for step in (0, 99, 100)] == [10, 10, float("inf")]


def test_it_is_read_from_a_config():
    config = MixtureConfig(sources=(OTHER,), curriculum=(Point(step=0, weights={"other": 0.0}), Point(step=5)))
    assert read(MixtureConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sources": [{"name": "latents", "path": "p"}]}, "names latents, latents, expected each once"),
        ({"weight": 0.0}, "expected none below 0 and one above"),
        ({"curriculum": [{"step": 5}, {"step": 5}]}, r"steps \[5, 5\], expected each later"),
        ({"curriculum": [{"step": 0, "images": 0.5}, {"step": 5}]}, "expected at all of them or at none"),
        ({"curriculum": [{"step": 0, "weights": {"othr": 1.0}}]}, "names 'othr', expected one of latents"),
        ({"curriculum": [{"step": 0, "images": 1.5}]}, "images is 1.5, expected a share"),
        ({"curriculum": [{"step": 0, "max_tokens": 0}]}, "max_tokens is 0, expected 1 or more"),
        ({"curriculum": [{"step": -1}]}, "step is -1"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        read(MixtureConfig, wrong, "mixture")

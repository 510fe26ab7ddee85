"""A task says what is wanted, the same in Python and in JSON; what makes no sense is said in one line."""

import dataclasses
import json

import pytest

from videodit.core.errors import UserError
from videodit.generation.tasks import Task, describe, read_task


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(task="movie"), "task is 'movie'"),
        (dict(task="extend"), "extend is given 0 inputs, expected 1"),
        (dict(inputs=("a.png",)), "text is given 1 inputs, expected 0"),
        (dict(task="image", inputs=("a.png",), strength=0.5), "image takes no strength; it takes seconds, storyboard, at"),
        (dict(task="edit", inputs=("a.mp4",), strength=1.5), "strength is 1.5, expected more than 0"),
        (dict(task="fill", inputs=("a.mp4",)), "neither what times are missing nor what region or mask"),
        (dict(task="edit", inputs=("a.mp4",), region=(0.0, 0.0, 1.0, 1.0), mask="b.png"), "edit has both a region and a mask"),
        (dict(task="loop", inputs=("a.mp4",), mask="b.png"), "loop takes no mask; it takes seconds, strength"),
        (dict(task="fill", inputs=("a.mp4",), missing=((2.0, 1.0),)), "missing is 2-1, expected seconds FROM-TO"),
        (dict(task="fill", inputs=("a.mp4",), region=(0.5, 0.0, 0.5, 1.0)), "expected left,top,right,bottom"),
        (dict(seconds=-1.0), "seconds is -1, expected 0 or more"),
        (dict(size=(0, 8)), "size is 8x0"),
        (dict(task="image", inputs=("a.png", "b.png"), at=(0.0,)), "at has 1 times for 2 images"),
        (dict(storyboard=((0.0, "x"),)), "a scene of 0 seconds"),
    ],
)
def test_what_makes_no_sense_is_one_line(fields, said):
    with pytest.raises(UserError, match=said):
        Task(**fields)


def test_a_task_is_the_same_after_json():
    for task in (
        Task(prompt="x", seed=3, seconds=2.0, size=(36, 64), negative="y"),
        Task(task="image", inputs=("a.png", "b.png"), at=(0.0, "end")),
        Task(task="fill", inputs=("a.mp4",), missing=((0.5, 1.0),), region=(0.0, 0.0, 1.0, 0.5)),
        Task(task="edit", inputs=("a.mp4",), mask="b.png", strength=0.5),
        Task(task="extend", inputs=("a.mp4",), direction="backward", storyboard=((1.0, "a"),)),
    ):
        assert read_task(json.loads(json.dumps(describe(task)))) == task


def test_a_line_says_only_what_is_its_own():
    default = Task(size=(8, 8), seed=5)
    assert read_task({"prompt": "x"}, default) == dataclasses.replace(default, prompt="x")
    with pytest.raises(UserError, match="no key 'promt'; did you mean 'prompt'"):
        read_task({"promt": "x"}, default)

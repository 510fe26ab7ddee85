"""What a dataset takes on follows from its inputs and from what it holds, and a run after it was taken on says the same of the rest."""

import dataclasses

import numpy as np
import pytest

from videodit.data import choosing, media
from videodit.data.curate import CurateConfig, examine
from videodit.data.inputs import Input


@pytest.fixture(scope="module")
def examination():
    """An examination of a still, whose one clip the tests vary."""
    return examine(media.encode_image(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)), CurateConfig())


def inputs(*names, **captions):
    return {name: Input(name=name, path=name, bytes=1, modified=0, captions=captions) for name in names}


def row(examination, *hashes, sha256="s", reasons=()):
    """The row of an input with a clip for each hash."""
    (one,) = examination.candidates
    reasons = [*reasons, *[None] * (len(hashes) - len(reasons))]
    candidates = tuple(dataclasses.replace(one, measures={"hash": f"{value:016x}"}, reason=why) for value, why in zip(hashes, reasons))
    return {"sha256": sha256, "reason": None, "examination": dataclasses.replace(examination, candidates=candidates).to_json()}


def keys(choice):
    return [clip.key for clip in choice.new]


def test_clips_of_an_input_are_numbered_where_they_are_several(examination):
    rows = {"a": row(examination, 1), "b": row(examination, 2, 3, 4, reasons=[None, "too dark: brightness 0.01, limit 0.05"])}
    choice = choosing.choose(inputs("a", "b"), rows, [], None)
    assert keys(choice) == ["a", "b#1", "b#3"] and choice.rejects == [{"file": "b#2", "reason": "too dark: brightness 0.01, limit 0.05"}]


def test_clips_come_in_the_order_of_inputs_and_then_of_time(examination):
    rows = {"a": row(examination, *range(11)), "b": row(examination, 99)}
    assert keys(choosing.choose(inputs("a", "b"), rows, [], None)) == [*(f"a#{k}" for k in range(1, 12)), "b"]


def test_the_first_of_near_duplicates_stays_and_what_is_left_out_does_not_count(examination):
    rows = {"a": row(examination, 0xFF, reasons=["too dark"]), "b": row(examination, 0xFE, 0xFC), "c": row(examination, 0xF0)}
    choice = choosing.choose(inputs("a", "b", "c"), rows, [], 2)
    assert keys(choice) == ["b#1", "c"]
    assert {each["file"]: each["reason"] for each in choice.rejects} == {
        "a": "too dark", "b#2": "near-duplicate of 'b#1': 1 of 64 bits differ",
    }  # fmt: skip


def test_what_was_said_of_the_rest_is_said_again_once_the_choice_is_held(examination):
    random, rows = np.random.default_rng(0), {}
    for name in (f"{number:03d}" for number in range(60)):
        rows[name] = row(examination, *(int(value) for value in random.integers(0, 64, random.integers(1, 4))))
    first = choosing.choose(inputs(*list(rows)[10:]), {name: rows[name] for name in list(rows)[10:]}, [], 1)
    held = [clip.said for clip in first.new]
    assert first.rejects and choosing.choose(inputs(*list(rows)[10:]), rows, held, 1) == choosing.Choice(
        new=[], rejects=first.rejects, gone=0
    )
    second = choosing.choose(inputs(*rows), rows, held, 1)
    again = choosing.choose(inputs(*rows), rows, held + [clip.said for clip in second.new], 1)
    assert again == choosing.Choice(new=[], rejects=second.rejects, gone=0)


def test_changed_inputs_and_captions_are_rejects_and_those_that_are_gone_are_counted(examination):
    rows = {"a": row(examination, 1), "b": row(examination, 2), "c": row(examination, 3), "d": row(examination, 4)}
    held = [clip.said for clip in choosing.choose(inputs("a", "b", "c", "d"), rows, [], None).new]
    now = inputs("a", "b") | inputs("c", original="new words")
    choice = choosing.choose(now, rows | {"a": row(examination, 1, sha256="other")}, held, None)
    assert {each["file"]: each["reason"].split(":")[0] for each in choice.rejects} == {
        "a": "changed since it was written", "c": "captions changed since it was written",
    }  # fmt: skip
    assert not choice.new and choice.gone == 1


def test_what_is_said_survives_json(examination):
    said = [clip.said for clip in choosing.choose(inputs("a"), {"a": row(examination, 1, 2)}, [], None).new]
    assert choosing.said_from_json(choosing.said_to_json(said)) == said


def test_inputs_are_held_out_by_their_name_alone():
    names = [f"{i}.mp4" for i in range(1000)]
    few, many = choosing.held_out(names[:500], 0.1, False), choosing.held_out(names, 0.1, False)
    assert few == {name for name in many if name in names[:500]} and 60 < len(many) < 140
    assert not choosing.held_out(names[:3], 0.001, False) and len(choosing.held_out(names[:3], 0.001, True)) == 1

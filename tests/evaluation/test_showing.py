"""Samples are shown by what the judge says of all of them, beside true clips of their prompts, and none by hand."""

import io
import json

from etils import epath
import numpy as np
from PIL import Image
import pytest

from videodit.data.media import encode_image
from videodit.evaluation import showing
from videodit.evaluation.judge import Judged, Verdict
from videodit.evaluation.report_shown import words
from videodit.evaluation.subjects import Judgement, Samples

TRUTH = {"prompt": "a red ball slides left", "shape": "ball", "colour": "red", "motion": "slides", "direction": "left", "camera": "still"}


def judgement(colour="red", shape="ball", direction="left", frames=9):
    solid = Judged(shape=shape, colour=colour, size=0.3, direction=direction if frames > 1 else None)
    return Judgement(verdict=Verdict(solids=(solid,), camera="still" if frames > 1 else None), frames=frames, truth=TRUTH)


def test_samples_are_ranked_by_the_share_of_right_facts():
    wrong, image = judgement("blue", "cube", "right"), judgement("blue", "cube", frames=1)
    shown = [wrong, judgement(), judgement("blue"), image, judgement("blue", "cube")]
    assert showing.ranked(shown, 0) == [1, 2, 4, 0, 3]  # 6, 5, 4 and 3 of 6, 1 of 3


def test_what_is_wrong_as_a_whole_is_no_fact_of_its_own():
    assert showing.facts_of(judgement("blue")) == {
        "colour": False, "shape": True, "motion": True, "camera": True, "alone": True, "steady": True
    }  # fmt: skip


def test_equal_samples_come_in_an_order_that_the_seed_draws():
    shown = [judgement() for _ in range(12)]
    orders = [showing.ranked(shown, seed) for seed in range(4)]
    assert all(sorted(order) == list(range(12)) for order in orders) and len(set(map(tuple, orders))) == 4
    assert list(range(12)) not in orders and showing.ranked(shown, 1) == orders[1]


def test_groups_are_the_first_the_middle_and_the_last():
    assert showing.best_middle_worst(range(100), 6) == {
        "best": [0, 1, 2, 3, 4, 5], "middle": [47, 48, 49, 50, 51, 52], "worst": [94, 95, 96, 97, 98, 99]
    }  # fmt: skip


@pytest.mark.parametrize("count", range(1, 25))
def test_no_sample_is_in_two_groups(count):
    groups = showing.best_middle_worst(range(count), 6)
    places = [i for group in groups.values() for i in group]
    assert len(places) == len(set(places)) and places == sorted(places) and places[0] == 0 and places[-1] == count - 1
    assert (count < 3 or len(groups) == 3) and max(map(len, groups.values())) <= 6


def test_what_the_judge_saw_is_said_in_words():
    ball = Judged(shape="ball", colour="red", size=0.3, direction="left", hops=True)
    leaps = Verdict(solids=(ball,), camera="still", faults=frozenset({"leaps"}))
    assert showing.seen(leaps) == "red ball, left, hops; camera: still; leaps"
    assert showing.seen(Verdict(solids=(), camera="still")) == "nothing"
    assert words(("colour", "shape"), ("shape",)) == "wrong, 1 of 2 facts: shape" and words(("colour",), ()) == "all 1 facts right"


def clip(value):
    return np.full((9, 16, 24, 3), (value, 200, value), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("evaluation"))
    judgements = [judgement(), judgement("blue"), judgement("blue", "cube")]
    clips, renders = [clip(10 * i) for i in range(3)], [clip(100 + 10 * i) for i in range(3)]
    samples = Samples(judgements={"trained": judgements}, clips=clips, renders=renders, through_vae=renders)
    showing.show_judged(samples, 8.0, 0, folder)
    return folder


def test_each_sample_lies_beside_the_render_of_its_own_prompt(folder):
    told = json.loads((folder / "shown.json").read_text())
    assert [group["name"] for group in told["groups"]] == ["best", "middle", "worst"] and "All 3 samples" in told["how"]
    for i, group in enumerate(told["groups"]):
        (each,) = group["clips"]
        pixels = {kind: np.asarray(Image.open(folder / each[kind]).convert("RGB")) for kind in ("sample", "true")}
        assert (pixels["sample"] == clip(10 * i)[0]).all() and (pixels["true"] == clip(100 + 10 * i)[0]).all()
        assert each["size"] == [16, 24] and each["prompt"] == TRUTH["prompt"]
    assert [group["clips"][0]["wrong"] for group in told["groups"]] == [[], ["colour"], ["colour", "shape"]]


def test_the_picture_enlarges_by_whole_pixels_and_holds_samples_above_renders(folder):
    sheet = np.asarray(Image.open(io.BytesIO((folder / "best_middle_worst.png").read_bytes())))
    tops = []
    for value in (20, 120):  # the worst sample, and the render below it
        rows, columns = np.nonzero((sheet == (value, 200, value)).all(-1))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (3 * 16, 3 * (5 * 24 + 4 * 2))
        tops.append(rows.min())
    assert tops[1] == tops[0] + 3 * (16 + 2)


def test_checkerboards_stay_checkerboards():
    board = np.indices((16, 24)).sum(0)[None, ..., None].repeat(3, -1).astype(np.uint8) % 2 * 200
    strips = showing._strips(showing.Shown(prompt="", sample=board, true=None))
    assert (strips == board[0].repeat(3, 0).repeat(3, 1)).all()


def test_without_a_judge_samples_come_in_order_beside_the_clips_of_their_captions(tiny, tmp_path, monkeypatch):
    def record(number):
        return {"key": str(number), "frames": 1, "media": encode_image(np.full((32, 48, 3), number, np.uint8))}

    prompts = [{"prompt": f"caption {i}", "record": 2 * i} for i in range(20)]
    monkeypatch.setattr(showing, "held_out_prompts", lambda *_: prompts)
    monkeypatch.setattr(showing, "ClipDataset", lambda *_: [record(i) for i in range(40)])
    make = lambda requests, settings: [np.zeros((each.frames, each.height, each.width, 3), np.uint8) for each in requests]
    monkeypatch.setattr(showing, "load_generator", lambda *_: make)
    showing.show_unchosen(tiny(), tmp_path, epath.Path(tmp_path))
    (group,) = json.loads((tmp_path / "shown.json").read_text())["groups"]
    assert [each["prompt"] for each in group["clips"]] == [f"caption {i}" for i in range(showing.UNCHOSEN)]
    for i, each in enumerate(group["clips"]):
        beside = np.asarray(Image.open(tmp_path / each["true"]).convert("RGB"))
        assert (beside == 2 * i).all() and list(beside.shape[:2]) == each["size"] and each["seen"] is None

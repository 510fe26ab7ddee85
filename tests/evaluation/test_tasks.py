"""The table of tasks: what copies and what is true score as they must, whatever the model is worth."""

import dataclasses
import json

import pytest

from videodit import cli
from videodit.core.config import read_config
from videodit.core.errors import UserError
from videodit.data import media
from videodit.data.worlds.combinations import held_out
from videodit.evaluation import tasks
from videodit.training.config import read_experiment


@pytest.fixture(scope="module")
def found(tiny_job):
    kept = {name: tasks.MEASURES[name] for name in ("image", "extend-forward", "extend-backward", "fill", "connect", "edit")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "MEASURES", kept)
        patch.setattr(tasks, "long_memory", lambda workdir, config: [])
        patch.setattr(tasks, "STRENGTHS", (0.3, 1.0))
        assert cli.main(["evaluate", "--tasks", f"--workdir={tiny_job}", "--config.evaluate.tasks=3", "--config.sample.steps=2"]) == 0
    rows = json.loads((tiny_job / "evaluation" / "tasks.json").read_text())["rows"]
    return {(row["task"], row["measure"]): row for row in rows}


def test_the_truth_has_no_error_and_copies_have_what_copying_costs(found):
    for (_, measure), row in found.items():
        if "error" in measure:
            assert row["true"] == pytest.approx(0, abs=1e-3) and row["copy"] > 0
    assert found["image", "given frame, dB"]["true"] == found["image", "given frame, dB"]["copy"] == 100
    assert found["fill", "missing frames, dB"]["true"] == 100 > found["fill", "missing frames, dB"]["copy"]
    assert found["extend forward", "direction error, degrees"]["copy"] == 90


def test_a_model_of_a_few_steps_and_a_frozen_clip_reach_no_aim(found):
    aims = {name: row for name, row in found.items() if row["aim"] and not name[1].startswith("strength")}
    assert len(aims) >= 10 and not any(row["reached"] for row in aims.values())
    for name, row in aims.items():
        if "right" in name[1] or "kept" in name[1]:
            assert row["copy"] == row["untrained"] == 0


def test_what_is_given_is_kept_by_any_model_and_so_is_no_aim(found):
    row = found["image", "given frame, dB"]
    assert row["reached"] is None and abs(row["ours"] - row["untrained"]) < 3


def test_figures_have_intervals_over_scenes(found):
    low, high = found["fill", "position error, of the shorter side"]["intervals"]["copy"]
    assert low <= found["fill", "position error, of the shorter side"]["copy"] <= high


def test_what_the_input_has_of_the_new_colour_is_measured(found):
    assert found["edit", "strength 1.0: of the new colour"]["copy"] is not None
    assert found["edit", "strength 1.0: like the input, dB"]["copy"] == 100


def test_a_small_strength_keeps_more_than_a_large_one(found):
    small, large = (found["edit", f"strength {s}: like the input, dB"]["ours"] for s in (0.3, 1.0))
    assert small > large + 1


def test_sheets_and_inputs_are_written(found, tiny_job):
    folder = tiny_job / "evaluation" / "tasks"
    assert {path.name for path in folder.glob("*.png")} >= {"image.png", "fill.png", "edit.png"}
    assert len(media.decode(folder / "inputs" / "still-0.png")) == 1 and len(media.decode(folder / "inputs" / "clip-0.mp4")) == 9


def test_scenes_are_of_combinations_that_training_never_saw(tiny_job):
    config = read_experiment(read_config(tiny_job))
    for moving in (True, False):
        for case in tasks.cases(config, 3, 9, moving):
            solid = case.scene.solids[0]
            assert held_out(solid.shape, solid.colour, solid.motion.kind, solid.motion.direction)
            assert (solid.motion.direction != "still") == moving and case.clip.shape == (9, *case.size, 3)


def test_without_worlds_there_is_no_truth(tiny_job):
    config = read_experiment(read_config(tiny_job))
    files = dataclasses.replace(config, data=dataclasses.replace(config.data, source="files", inputs=("a",)))
    with pytest.raises(UserError, match="evaluate --tasks needs a transformer of the worlds"):
        tasks.evaluate_tasks(files, tiny_job)

"""A config is read strictly: what is wrong is named with what would be right, and what is right survives a round trip."""

import dataclasses
from typing import Literal

import ml_collections
import numpy as np
import pytest

from videodit.core import config, flags
from videodit.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    learning_rate: float = 1e-3
    clip: float | None = None
    kind: Literal["adamw", "muon"] = "adamw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    steps: int
    optimiser: Optimiser = dataclasses.field(default_factory=Optimiser)
    sizes: tuple[tuple[int, int], ...] = ()
    patch: tuple[int, int, int] = (1, 2, 2)
    remat: bool = False
    name: str = ""

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, expected 0 or more")


def test_nested_sections_become_dataclasses():
    section = ml_collections.ConfigDict({"steps": 3, "optimiser": {"learning_rate": 1, "clip": None}, "sizes": [[36, 64], (64, 64)]})
    read = config.read(Experiment, section)
    assert read == Experiment(steps=3, optimiser=Optimiser(learning_rate=1.0), sizes=((36, 64), (64, 64)))
    assert isinstance(read.optimiser.learning_rate, float)


def test_what_is_written_reads_back_equal(tmp_path):
    experiment = Experiment(steps=5, optimiser=Optimiser(clip=0.5, kind="muon"), sizes=((8, 16),), name="a")
    config.write_config(tmp_path, experiment)
    assert config.read(Experiment, config.read_config(tmp_path)) == experiment


def test_numpy_scalars_are_numbers():
    assert config.read(Experiment, {"steps": np.int64(4)}).steps == 4


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"step": 1}, "config has no key 'step'; did you mean 'steps'?"),
        ({"steps": 1, "optimiser": {"learning_rat": 1.0}}, "no key 'optimiser.learning_rat'; did you mean 'learning_rate'?"),
        ({"steps": 1, "zzz": 1}, "known: steps, optimiser"),
        ({"steps": "many"}, "steps is 'many' (str), expected int"),
        ({"steps": 1.5}, "steps is 1.5 (float), expected int"),
        ({"steps": True}, "steps is True (bool), expected int"),
        ({"steps": 1, "remat": 1}, "remat is 1 (int), expected bool"),
        ({"steps": 1, "name": 7}, "name is 7 (int), expected str"),
        ({"steps": 1, "optimiser": {"clip": "x"}}, "optimiser.clip is 'x' (str), expected float or None"),
        ({"steps": 1, "optimiser": {"kind": "sgd"}}, "optimiser.kind is 'sgd' (str), expected 'adamw' or 'muon'"),
        ({"steps": 1, "optimiser": 3}, "optimiser is 3 (int), expected Optimiser"),
        ({"steps": 1, "patch": (1, 2)}, "patch is [1, 2] (tuple), expected (int, int, int)"),
        ({"steps": 1, "sizes": [[1, "a"]]}, "sizes[0][1] is 'a' (str), expected int"),
        ({"remat": True}, "lacks the key 'steps', expected int"),
        ({"steps": -1}, "steps is -1, expected 0 or more"),
    ],
)
def test_what_is_wrong_is_named_in_one_line_with_what_is_right(section, said):
    with pytest.raises(UserError) as error:
        config.read(Experiment, section)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_workdir_without_a_config_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a workdir"):
        config.read_config(tmp_path)


EXPERIMENT = """
import ml_collections

def get_config(variant="small"):
    return ml_collections.ConfigDict({
        "steps": {"small": 10, "large": 1000}[variant], "optimiser": {"learning_rate": 0.1, "clip": None}, "sizes": ((8, 8),)
    })
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(EXPERIMENT)
    return str(path)


def test_a_variant_is_passed_to_get_config(experiment):
    assert config.load(experiment).steps == 10
    assert config.load(experiment + ":large").steps == 1000


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("--config.steps=7", Experiment(steps=7)),
        ("--config.optimiser.clip=0.5", Experiment(steps=10, optimiser=Optimiser(clip=0.5))),
        ("--config.optimiser.kind=muon", Experiment(steps=10, optimiser=Optimiser(kind="muon"))),
        ("--config.name=runs/a b", Experiment(steps=10, name="runs/a b")),
        ("--config.sizes=((1,2),(3,4))", Experiment(steps=10, sizes=((1, 2), (3, 4)))),
    ],
)
def test_any_field_can_be_overridden_also_one_that_is_none_or_left_to_its_default(experiment, override, field):
    read = config.read(Experiment, flags.load(experiment, [override]))
    for name in ("steps", "name"):
        assert getattr(read, name) == getattr(field, name)
    assert (read.optimiser.clip, read.optimiser.kind) == (field.optimiser.clip, field.optimiser.kind)
    assert read.sizes == (field.sizes or ((8, 8),))


@pytest.mark.parametrize("held", [[[8, 8]], [], ((8, 8),)])
def test_a_list_can_be_overridden_whatever_holds_it(held):
    found = flags.apply_overrides({"steps": 3, "sizes": held}, ["--config.sizes=((1,2),(3,4))"])
    assert config.read(Experiment, found).sizes == ((1, 2), (3, 4))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.optimizer.clip=1", "did you mean 'optimiser'?"),
        ("--config.steps=many", "--config.steps=many"),
        ("--config.steps.more=1", "steps is 10, not a section"),
    ],
)
def test_a_wrong_override_is_an_error(experiment, override, said):
    with pytest.raises(UserError, match=None) as error:
        config.read(Experiment, flags.load(experiment, [override]))
    assert said in str(error.value)


def test_a_missing_config_file_is_named():
    with pytest.raises(UserError, match="'nowhere.py' does not exist"):
        config.load("nowhere.py:small")

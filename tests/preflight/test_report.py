"""The `preflight` verb: a page for a person, figures for a program, an exit status for a launcher."""

import dataclasses
import json

import pytest

from videodit import cli
from videodit.preflight.chips import parse_target
from videodit.preflight.report import preflight, preflight_lines
from videodit.preflight.roofline import Roofline


def told(tmp_path, capsys, *arguments):
    path = tmp_path / "preflight.json"
    status = cli.main(["preflight", f"--json={path}", *arguments])
    out = capsys.readouterr()
    return status, out.out, (json.loads(path.read_text()) if path.exists() else out.err)


def test_gpus_get_an_estimate_that_says_so(tmp_path, capsys):
    status, page, found = told(tmp_path, capsys, "--config=experiments/pods.py:8b", "--topology=h100:128")
    train = found["programs"]["train"]
    assert status == 0 and found["fits"] and found["source"] == train["roofline"]["source"] == "analytic" and "ESTIMATED" in page
    memory = dict(train["memory"])
    assert memory.pop("peak") == pytest.approx(sum(memory.values()))
    assert train["mfu"] == pytest.approx(train["work"]["model_flops"] / (train["step_seconds"] * 128 * 989e12))
    assert train["planned"] == 128 * 20480 * 200_000 and train["chip_hours"] == pytest.approx(train["days"] * 24 * 128)
    assert f"{train['step_seconds']:.3f} s" in page


def test_what_does_not_fit_ends_with_1_and_says_what_would(tmp_path, capsys):
    status, page, found = told(tmp_path, capsys, "--config=experiments/pods.py:8b", "--topology=a100:16", "--config.mesh.fsdp=16")
    assert status == 1 and not found["fits"] and len(found["advice"]) == 1
    assert "does NOT fit" in page and found["advice"][0] in page


def test_a_search_prints_a_table(tmp_path, capsys):
    where = ("--config=experiments/pods.py:image_1b", "--topology=h100:16", "--search")
    status, page, found = told(tmp_path, capsys, *where)
    assert status == 0 and page.startswith("| step s |") and len(found) > 10 and "config" not in found[0]


@pytest.mark.parametrize("arguments, said", [
    (("--topology=v9:4x4",), "--topology is 'v9:4x4', expected KIND:SHAPE"),
    (("--topology=h100:64", "--slices=2"), "--slices is 2"),
    (("--topology=h100:60",), "does not fit 60 devices"),
])  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, said):
    status, _, error = told(tmp_path, capsys, "--config=experiments/pods.py:8b", *arguments)
    assert status == 2 and said in error and error.count("\n") == 1


def test_a_step_takes_its_arithmetic_or_what_goes_beside_it_and_what_it_waits_for():
    line = Roofline(source="analytic", matrix=2.0, memory=1.0, attention=0.5, compute=3.0, networks={}, hidden=2.0, waited=0.5)
    assert line.step == 3.5 and line.bound == "matrix products"
    slow = dataclasses.replace(line, hidden=7.0)
    assert slow.step == 7.5 and slow.bound == "network"
    assert dataclasses.replace(line, memory=4.0).bound == "memory"


def test_what_xla_refused_is_told_with_what_it_needs():
    program = {"fits": False, "memory": {"peak": 30 * 2**30}, "said": "RESOURCE_EXHAUSTED"}
    found = {"topology": "v5e:4x4", "slices": 2, "chips": 32, "source": "compiled", "hbm_bytes": 16 * 2**30}
    lines = preflight_lines(found | {"programs": {"train": program}, "fits": False, "advice": ["--config.dit.remat=full"]})
    assert "train: does not fit: needs 30.0 GiB of 16.0 GiB a device" in lines and lines[0].startswith("2 slices of v5e:4x4, 32 chips")


def test_the_memory_of_a_target_is_a_devices(tiny):
    target = parse_target("h200:8")
    found = preflight(tiny(mesh={"data": 8}, packing={"rows": 8}), target)
    assert found["hbm_bytes"] == 141e9 and found["fits"]

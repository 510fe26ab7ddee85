"""Each input is examined once, nothing that is wrong with one ends the run, and what was found outlasts a kill."""

import importlib

import pytest

from videodit.core.errors import UserError
from videodit.data import examining
from videodit.data.curate import CurateConfig
from videodit.data.inputs import Input, find
from videodit.data.runners import Local


def inputs(count):
    return {f"f{i:03d}": Input(name=f"f{i:03d}", path=f"nowhere/f{i:03d}", bytes=1, modified=0) for i in range(count)}


def test_whatever_is_wrong_with_an_input_is_its_reason(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(1000))
    (one,) = find(tmp_path).files.values()
    assert examining.examine_input(one, CurateConfig())["reason"]
    with monkeypatch.context() as patch:
        patch.setattr(examining, "examine", lambda *_: (_ for _ in ()).throw(OSError("image file is truncated")))
        assert examining.examine_input(one, CurateConfig())["reason"] == "image file is truncated"
    with monkeypatch.context() as patch, pytest.raises(UserError):  # what is wrong with the installation is not the input's fault
        patch.setattr(examining, "examine", lambda *_: (_ for _ in ()).throw(UserError("install it")))
        examining.examine_input(one, CurateConfig())
    (tmp_path / "a.mp4").unlink()
    assert examining.examine_input(one, CurateConfig())["reason"] == "cannot be read: No such file or directory"


def test_an_input_that_crashes_its_decoder_costs_only_itself(tmp_path, monkeypatch):
    # Worker processes import what they run, so the crash comes from a module of its own.
    (tmp_path / "crashing.py").write_text(
        "import os\ndef examine_input(one, curate):\n    if one.name == 'f003': os.abort()\n"
        "    return {'name': one.name, 'bytes': one.bytes, 'modified': one.modified, 'sha256': '', 'reason': None, 'examination': None}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(examining, "examine_input", importlib.import_module("crashing").examine_input)
    rows = examining.examine_all(inputs(12), tmp_path / "out", CurateConfig(), Local(2))
    assert {name: row["reason"] for name, row in rows.items() if row["reason"]} == {"f003": "the decoder crashed on it"} and len(rows) == 12


def test_what_was_examined_before_a_kill_is_not_examined_again(tmp_path, monkeypatch):
    seen = []

    def examine(source, curate):
        seen.append(source)
        if len(seen) == 70:
            raise KeyboardInterrupt
        raise ValueError("made for this test")

    monkeypatch.setattr(examining, "examine", examine)
    monkeypatch.setattr(examining, "digest", lambda source: "")
    monkeypatch.setattr(examining, "_TASKS", 1)  # so that a task is of 32 inputs
    with pytest.raises(KeyboardInterrupt):
        examining.examine_all(inputs(100), tmp_path, CurateConfig(), Local(1))
    assert seen[:64] == [f"nowhere/f{i:03d}" for i in range(64)]
    counts = []
    rows = examining.examine_all(inputs(100), tmp_path, CurateConfig(), Local(1), lambda *count: counts.append(count))
    assert seen[70:] == [f"nowhere/f{i:03d}" for i in range(64, 100)] and counts == [(96, 100), (100, 100)]
    assert list(rows) == sorted(rows) and {row["reason"] for row in rows.values()} == {"ValueError: made for this test"}
    assert [path.name for path in (tmp_path / examining.FOLDER).rglob("*.jsonl")] == ["all.jsonl"]
    changed = inputs(100) | {"f050": Input(name="f050", path="nowhere/f050", bytes=2, modified=0)}
    examining.examine_all(changed, tmp_path, CurateConfig(), Local(1))
    assert seen[106:] == ["nowhere/f050"]

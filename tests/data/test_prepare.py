"""Every input becomes a record or a reject with a reason, in an order and a split that never change."""

import importlib
import json
import shutil

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import folder as folders
from videodit.data import media
from videodit.data import prepare as preparing
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.prepare import DataConfig, prepare
from videodit.data.worlds import WorldsConfig, WorldsSource


def rejects(output):
    return {line["file"]: line["reason"] for line in map(json.loads, (output / "rejects.jsonl").read_text().splitlines())}


def picture(shade, height=24, width=32):
    return np.full((1, height, width, 3), shade, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Ten good stills, a good clip and five files that are none, with captions."""
    root = tmp_path / "raw"
    for i in range(10):
        media.write(root / f"sub/{i}.png", picture(20 * i), 1.0)
    media.write(root / "moving.mp4", np.concatenate([picture(5 * t, 33, 47) for t in range(12)]), 24.0)
    (root / "notes.txt").write_text("no clip")
    (root / "empty.mp4").write_bytes(b"")
    (root / "cut.png").write_bytes((root / "sub/3.png").read_bytes()[:60])
    (root / "noise.webm").write_bytes(bytes(range(256)) * 20)
    (root / ".hidden").write_text("not an input")
    (root / "captions.jsonl").write_text(
        '{"file": "moving.mp4", "caption": "It gets brighter, très vite."}\n\n'
        '{"file": "gone.mp4", "caption": "?"}\nnot json\n'
        '{"file": "moving.mp4", "caption": "again"}\n'
    )
    return root


def config(folder, **changes):
    return DataConfig(source="folder", folder=str(folder), **({"workers": 1, "shards": 3} | changes))


def test_every_input_is_a_record_or_a_reject(folder, tmp_path):
    output = tmp_path / "out"
    summary = prepare(config(folder), output)
    kept = ClipDataset(output).keys + ClipDataset(output, "held_out").keys
    assert sorted(kept) == sorted(["moving.mp4", *(f"sub/{i}.png" for i in range(10))])
    found = rejects(output)
    assert set(found) == {"notes.txt", "empty.mp4", "cut.png", "noise.webm", "gone.mp4", "captions.jsonl, line 4",
                          "captions.jsonl, line 5"}  # fmt: skip
    assert "text" in found["notes.txt"] and "does not exist" in found["gone.mp4"]
    assert sum(summary.kept.values()) == 11 and sum(summary.rejected.values()) == 7


def test_bytes_sizes_and_captions_are_the_files_own(folder, tmp_path):
    prepare(config(folder, held_out_share=0.0), tmp_path / "out")
    dataset = ClipDataset(tmp_path / "out")
    clip = dataset[dataset.keys.index("moving.mp4")]
    assert clip["media"] == (folder / "moving.mp4").read_bytes()
    assert (clip["frames"], clip["height"], clip["width"], clip["fps"], clip["format"]) == (12, 33, 47, 24.0, "mp4")
    assert clip["captions"] == {"original": "It gets brighter, très vite.", "descriptive": ""} and clip["state"] == ""
    assert decode_record(clip, fps=8.0).shape == (4, 33, 47, 3)


def test_some_clips_are_held_out_and_stay_so_when_the_folder_grows(folder, tmp_path):
    prepare(config(folder), tmp_path / "out")
    held_out = ClipDataset(tmp_path / "out", "held_out").keys
    assert len(held_out) >= 1
    keys = [f"{i}.mp4" for i in range(1000)]
    few, many = preparing._held_out(keys[:500], 0.1), preparing._held_out(keys, 0.1)
    assert few == {key for key in many if key in keys[:500]} and 60 < len(many) < 140


def test_a_second_run_checks_and_writes_nothing_and_reports_the_same(folder, tmp_path, monkeypatch):
    first = prepare(config(folder), tmp_path / "out")
    monkeypatch.setattr(media, "check", lambda *_: pytest.fail("checked again"))
    again = prepare(config(folder), tmp_path / "out")
    assert (again.kept, again.rejected, again.sizes) == (first.kept, first.rejected, first.sizes)


def test_workers_change_nothing(folder, tmp_path):
    prepare(config(folder), tmp_path / "one")
    prepare(config(folder, workers=2), tmp_path / "two")
    for path in (tmp_path / "one").glob("*"):
        if path.is_file() and path.name != "checks.jsonl":  # its lines come in the order of finishing
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_output_may_lie_in_the_folder(folder):
    prepare(config(folder), folder / "out")
    assert prepare(config(folder), folder / "out").kept["train"] + 0 > 0
    assert not any("out/" in file for file in rejects(folder / "out"))


def test_a_folder_that_has_changed_is_refused(folder, tmp_path):
    prepare(config(folder), tmp_path / "out")
    media.write(folder / "new.png", picture(7), 1.0)
    with pytest.raises(UserError, match="contents=.* choose another directory, or delete"):
        prepare(config(folder), tmp_path / "out")


def test_nothing_usable_is_an_error_that_says_what_was_found(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        prepare(config(tmp_path / "nowhere"), tmp_path / "out")
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        prepare(config(tmp_path / "raw"), tmp_path / "out")
    (tmp_path / "raw" / "a.txt").write_text("text")
    with pytest.raises(UserError, match="1 files, none usable; the first is 'a.txt': text, not media"):
        prepare(config(tmp_path / "raw"), tmp_path / "out")


def test_config_mistakes_are_named():
    with pytest.raises(UserError, match="data.folder"):
        DataConfig(source="folder")
    with pytest.raises(UserError, match="data.shards is 0"):
        DataConfig(shards=0)


def test_worlds_become_clips_like_any_other(tmp_path):
    worlds = WorldsConfig(count=7, frames=(1, 5), sizes=((32, 40),))
    summary = prepare(DataConfig(worlds=worlds, held_out_count=3, workers=1), tmp_path / "out")
    assert summary.kept == {"train": 7, "held_out": 3}
    source, dataset = WorldsSource(worlds), ClipDataset(tmp_path / "out")
    for i in range(7):
        made, clip = source[i], dataset[i]
        decoded = decode_record(clip, fps=8.0)
        assert decoded.shape == made["frames"].shape and np.abs(decoded.astype(int) - made["frames"]).mean() < 3
        assert clip["captions"] == {
            "original": made["captions"]["original"],
            "descriptive": made["captions"]["descriptive"],
        }
        assert json.loads(clip["state"]) == json.loads(json.dumps(made["state"]))
    assert not set(dataset.keys) & set(ClipDataset(tmp_path / "out", "held_out").keys)
    assert (tmp_path / "out/rejects.jsonl").read_text() == ""


def test_real_clips_are_kept_at_native_sizes(clips, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    good = ["tiny_32x18_flower.mp4", "rotated_keyboard_090_3frames.mov", "name with spaces ünï 猫.mp4"]
    for name in [*good, "truncated_bear.webm", "audio_only.mp4", "../images/balloon_rgba_150x150.png"]:
        shutil.copy(clips / "awkward" / name, raw)
    prepare(config(raw), tmp_path / "out")
    dataset = ClipDataset(tmp_path / "out")
    assert dict(zip(dataset.keys, dataset.sizes.tolist())) == {
        "tiny_32x18_flower.mp4": [60, 18, 32], "rotated_keyboard_090_3frames.mov": [3, 568, 320],
        "name with spaces ünï 猫.mp4": [2, 360, 480], "balloon_rgba_150x150.png": [1, 150, 150],
    }  # fmt: skip
    assert set(rejects(tmp_path / "out")) == {"truncated_bear.webm", "audio_only.mp4"}


def test_a_check_never_raises(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(1000))
    assert folders.check_file(str(tmp_path), "a.mp4")["reason"]
    assert folders.check_file(str(tmp_path), "missing.mp4")["reason"]


def test_a_file_that_crashes_its_decoder_costs_only_itself(tmp_path, monkeypatch):
    # Worker processes import what they run, so the crash comes from a module of its own.
    (tmp_path / "crashing_check.py").write_text(
        "import os\ndef check_file(folder, file):\n    if file == 'f3': os.abort()\n    return {'reason': None, 'record': {}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(folders, "check_file", importlib.import_module("crashing_check").check_file)
    results = dict(folders._check_files("", [f"f{i}" for i in range(12)], 2))
    assert len(results) == 12
    assert {file: result["reason"] for file, result in results.items() if result["reason"]} == {"f3": "the decoder crashed on it"}

"""Every input becomes a record or a reject with a reason, in an order and a split that never change, whoever does the work."""

import dataclasses
import json
import os
import shutil
import sys
import tarfile

from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
import numpy as np
import pytest
import tensorflow_datasets as tfds

from videodit import cli
from videodit.core.errors import UserError
from videodit.data import choosing, examining, media, shards
from videodit.data import prepare as preparing
from videodit.data.curate import CurateConfig
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.prepare import DataConfig, prepare
from videodit.data.runners import Beam
from videodit.data.worlds import WorldsConfig, WorldsSource


def rejects(output):
    return {line["file"]: line["reason"] for line in map(json.loads, (output / "rejects.jsonl").read_text().splitlines())}


def picture(number, frames=1, height=24, width=32):
    """Frames of a world of their own: no two alike."""
    worlds = WorldsConfig(seed=number, count=1, frames=(1 + -(-(frames - 1) // 4) * 4,), sizes=((height, width),))
    return WorldsSource(worlds)[0]["frames"][:frames]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ten good stills, a good clip and four files that are none, with captions."""
    root = tmp_path_factory.mktemp("made") / "raw"
    for i in range(10):
        media.write(root / f"sub/{i}.png", picture(i), 1.0)
    media.write(root / "moving.mp4", picture(20, 12, 33, 47), 24.0)
    (root / "notes.txt").write_text("no clip")
    (root / "empty.mp4").write_bytes(b"")
    (root / "cut.png").write_bytes((root / "sub/3.png").read_bytes()[:60])
    (root / "noise.webm").write_bytes(bytes(range(256)) * 20)
    (root / "captions.jsonl").write_text(
        '{"file": "moving.mp4", "caption": "It gets brighter, très vite.", "descriptive": "A moving clip."}\n'
        '{"file": "gone.mp4", "caption": "?"}\n'
    )
    return root


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "raw")


def config(inputs, **changes):
    return DataConfig(source="files", inputs=str(inputs), **({"workers": 1} | changes))


def keys(output):
    return sorted(ClipDataset(output).keys + ClipDataset(output, "held_out").keys)


def contents(output):
    """The bytes of every file of a dataset but what is only kept to examine nothing twice."""
    paths = (path for path in sorted(output.rglob("*")) if path.is_file())
    return {str(name): path.read_bytes() for path in paths if (name := path.relative_to(output)).parts[0] != examining.FOLDER}


NAMES = sorted(["moving.mp4", *(f"sub/{i}.png" for i in range(10))])


def test_every_input_is_a_record_or_a_reject(folder, tmp_path):
    output = tmp_path / "out"
    summary = prepare(config(folder), output)
    assert keys(output) == NAMES
    found = rejects(output)
    assert set(found) == {"notes.txt", "empty.mp4", "cut.png", "noise.webm", "gone.mp4"}
    assert "text" in found["notes.txt"] and "does not exist" in found["gone.mp4"]
    assert sum(summary.kept.values()) == summary.added == 11 and sum(summary.rejected.values()) == 5
    assert summary.hours_in == pytest.approx(summary.hours_kept) == pytest.approx(0.5 / 3600, rel=0.01)


def test_bytes_sizes_and_captions_are_the_files_own(folder, tmp_path):
    prepare(config(folder, held_out_share=0.0), tmp_path / "out")
    dataset = ClipDataset(tmp_path / "out")
    clip = dataset[dataset.keys.index("moving.mp4")]
    assert clip["media"] == (folder / "moving.mp4").read_bytes() and clip["source"] == "moving.mp4" and clip["state"] == ""
    assert (clip["frames"], clip["height"], clip["width"], clip["fps"], clip["format"]) == (12, 33, 47, 24.0, "mp4")
    assert clip["captions"] == {"original": "It gets brighter, très vite.", "descriptive": "A moving clip."}
    assert decode_record(clip, fps=8.0).shape == (4, 33, 47, 3)


def test_a_second_run_does_nothing_and_reports_the_same(folder, tmp_path, monkeypatch):
    first = prepare(config(folder), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    monkeypatch.setattr(examining, "examine", lambda *_: pytest.fail("examined again"))
    again = prepare(config(folder), tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert dataclasses.replace(again, seconds=0, added=11) == dataclasses.replace(first, seconds=0)


def test_workers_change_nothing(folder, tmp_path):
    prepare(config(folder), tmp_path / "one")
    prepare(config(folder, workers=2), tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_beam_pipeline_makes_the_same(folder, tmp_path):
    pytest.importorskip("apache_beam")
    prepare(config(folder), tmp_path / "one")
    options = ("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    prepare(config(folder), tmp_path / "beam", runner=Beam(options))
    assert contents(tmp_path / "one") == contents(tmp_path / "beam")


class Stop(BaseException):
    """Stands for a kill."""


def stop_at(monkeypatch, number, after):
    """Makes the `number`-th putting of a file in its place fail, before it is done or after; returns a list that counts them."""
    calls, replace = [], os.replace

    def stopping(*places):
        calls.append(places)
        if len(calls) == number and not after:
            raise Stop
        replace(*places)
        if len(calls) == number:
            raise Stop

    monkeypatch.setattr(os, "replace", stopping)
    return calls


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("grows", [False, True])
def test_stopped_at_any_file_it_puts_in_place_the_next_run_ends_the_same(tmp_path, monkeypatch, grows, after):
    raw, whole = tmp_path / "raw", tmp_path / "whole"
    for number in range(5):
        media.write(raw / f"{number}.png", picture(number), 1.0)
    (raw / "broken.png").write_bytes(b"x")
    whole.mkdir()
    if grows:
        prepare(config(raw, held_out_share=0.3), whole)
    first = shutil.copytree(whole, tmp_path / "first")
    media.write(raw / "new.png", picture(9), 1.0)
    (raw / "broken too.png").write_bytes(b"x")
    with monkeypatch.context() as patch:
        calls = stop_at(patch, 0, after)
        prepare(config(raw, held_out_share=0.3), whole)
    assert len(calls) > 8
    for number in range(1, len(calls) + 1):
        output = shutil.copytree(first, tmp_path / f"stopped-{number}")
        with monkeypatch.context() as patch, pytest.raises(Stop):
            stop_at(patch, number, after)
            prepare(config(raw, held_out_share=0.3), output)
        if grows:  # what is read meanwhile is whole
            assert len(ClipDataset(output)) == len(shards.open_split(output, "train"))
        prepare(config(raw, held_out_share=0.3), output)
        assert contents(output) == contents(whole), number


def test_the_output_may_lie_in_the_folder(folder):
    prepare(config(folder), folder / "out")
    assert prepare(config(folder), folder / "out").added == 0
    assert not any("out/" in file for file in rejects(folder / "out"))


def test_a_clip_that_cannot_be_cut_out_is_a_reject_and_stays_one(folder, tmp_path, monkeypatch):
    def cut(source, info, candidate):
        if str(source).endswith("5.png"):
            raise media.MediaError("made for this test")
        return real(source, info, candidate)

    real = preparing.cut
    monkeypatch.setattr(preparing, "cut", cut)
    summary = prepare(config(folder), tmp_path / "out")
    assert (
        keys(tmp_path / "out") == [name for name in NAMES if name != "sub/5.png"]
        and summary.rejected["cannot be cut out: made for this test"] == 1
    )
    before = contents(tmp_path / "out")
    assert rejects(tmp_path / "out")["sub/5.png"] == "cannot be cut out: made for this test"
    media.write(folder / "new.png", picture(50), 1.0)
    assert prepare(config(folder), tmp_path / "out").added == 1
    assert contents(tmp_path / "out")["rejects.jsonl"] == before["rejects.jsonl"]


def test_an_input_that_changes_under_the_writing_ends_the_run(folder, tmp_path, monkeypatch):
    def choose(*arguments):
        media.write(folder / "sub/7.png", picture(51), 1.0)
        return real(*arguments)

    real = choosing.choose
    monkeypatch.setattr(choosing, "choose", choose)
    with pytest.raises(UserError, match="'sub/7.png' has changed while the dataset was being written: run prepare again"):
        prepare(config(folder), tmp_path / "out")
    assert prepare(config(folder), tmp_path / "out").added == 11


def test_other_settings_are_refused_in_a_line(folder, tmp_path):
    prepare(config(folder), tmp_path / "out")
    with pytest.raises(UserError, match="held_out_share=0.02, not 0.5: choose another directory, or delete"):
        prepare(config(folder, held_out_share=0.5), tmp_path / "out")
    with pytest.raises(UserError, match='source="files", not "worlds"'):
        prepare(DataConfig(), tmp_path / "out")


def test_added_inputs_are_all_that_is_examined_and_written(folder, tmp_path, monkeypatch):
    output, looked_at = tmp_path / "out", []
    prepare(config(folder), output)
    old = {path: path.stat().st_mtime_ns for path in output.glob("clips-*")}
    before = ClipDataset(output).keys
    media.write(folder / "a_new.png", picture(30), 1.0)
    media.write(folder / "z_new.mp4", picture(31, 9), 8.0)
    (folder / "broken.mp4").write_bytes(b"x")
    monkeypatch.setattr(examining, "examine", lambda source, curate: looked_at.append(source) or examine(source, curate))
    summary = prepare(config(folder), output)
    assert {str(each).rsplit("/")[-1] for each in looked_at} == {"a_new.png", "z_new.mp4", "broken.mp4"}
    assert summary.added == 2 and keys(output) == sorted([*NAMES, "a_new.png", "z_new.mp4"]) and "broken.mp4" in rejects(output)
    assert old.items() <= {path: path.stat().st_mtime_ns for path in output.glob("clips-*")}.items()
    train = ClipDataset(output)
    assert train.keys[: len(before)] == before
    source = tfds.builder_from_directory(output).as_data_source("train")
    assert [source[i]["key"].decode() for i in range(len(source))] == train.keys
    again = contents(output)
    prepare(config(folder), output)
    assert contents(output) == again


examine = examining.examine


def test_what_has_changed_or_gone_is_said_and_the_records_stay(folder, tmp_path):
    output = tmp_path / "out"
    prepare(config(folder), output)
    media.write(folder / "sub/1.png", picture(40), 1.0)
    (folder / "sub/2.png").unlink()
    (folder / "captions.jsonl").write_text('{"file": "moving.mp4", "caption": "Another."}\n')
    media.write(folder / "cut.png", picture(41), 1.0)
    summary = prepare(config(folder), output)
    found = rejects(output)
    assert found["sub/1.png"].startswith("changed since it was written")
    assert found["moving.mp4"].startswith("captions changed since it was written")
    assert summary.gone == 1 and summary.added == 1 and keys(output) == sorted([*NAMES, "cut.png"])


def test_a_copy_of_the_inputs_is_the_same_inputs(folder, tmp_path):
    prepare(config(folder), tmp_path / "out")
    before = contents(tmp_path / "out")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    prepare(config(tmp_path / "copy"), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_tar_gives_the_clips_of_the_folder_it_was_made_from(folder, tmp_path):
    (folder / "moving.json").write_text('{"caption": "It gets brighter, très vite.", "descriptive": "A moving clip."}')
    with tarfile.open(tmp_path / "raw.tar", "w") as tar:
        tar.add(folder, arcname=".", filter=lambda member: None if "captions" in member.name else member)
    prepare(config(tmp_path / "raw.tar", held_out_share=0.0), tmp_path / "tar")
    (folder / "moving.json").unlink()
    prepare(config(folder, held_out_share=0.0), tmp_path / "folder")
    one, two = ClipDataset(tmp_path / "folder"), ClipDataset(tmp_path / "tar")
    assert [f"raw.tar/./{key}" for key in one.keys] == two.keys
    for i in range(len(one)):
        assert {**one[i], "key": "", "source": ""} == {**two[i], "key": "", "source": ""}


class Bucket(MemoryFileSystem):
    """Stands for Google's store: objects in memory, with its addresses."""

    protocol = ("gs",)
    store, pseudo_dirs = {}, [""]

    def __init__(self, *arguments, finalize_on_close=None, **options):
        super().__init__(*arguments, **options)

    @classmethod
    def _strip_protocol(cls, path):
        path = path.removeprefix("gs://").strip("/")
        return f"/{path}" if path else ""


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "gcs", Bucket)
    yield epath.Path("gs://bucket")
    Bucket.store.clear()


def test_a_bucket_is_read_and_written_like_a_folder(folder, tmp_path, bucket):
    for names in (["captions.jsonl", "cut.png", *NAMES[:6]], NAMES[6:]):
        for place in (epath.Path(tmp_path), bucket):
            for name in names:
                (place / "some" / name).parent.mkdir(parents=True, exist_ok=True)
                (place / "some" / name).write_bytes((folder / name).read_bytes())
            prepare(config(place / "some", held_out_share=0.2), place / "out")
    stored = {name.removeprefix("/bucket/out/"): each.getvalue() for name, each in Bucket.store.items() if name.startswith("/bucket/out/")}
    assert {name: each for name, each in stored.items() if not name.startswith(examining.FOLDER)} == contents(tmp_path / "out")
    assert sum(json.loads(line)["records"] for name, line in stored.items() if name.startswith("shards/")) == len(NAMES)


def test_shards_follow_from_the_inputs_and_hold_so_many_megabytes(tmp_path):
    noise = np.random.default_rng(0)
    for i in range(6):
        media.write(tmp_path / "raw" / f"{i}.png", noise.integers(0, 256, (1, 360, 400, 3), np.uint8), 1.0)  # 0.43 MB each
    prepare(config(tmp_path / "raw", shard_mb=1, held_out_share=0.0), tmp_path / "out")
    assert shards.written(tmp_path / "out") == {"train": [2, 2, 2], "held_out": [0]}


def test_clips_of_an_input_stay_on_its_side_of_the_split(tmp_path):
    for i in range(40):
        media.write(tmp_path / "raw" / f"{i}.png", picture(i), 1.0)
    few = tmp_path / "few"
    shutil.copytree(tmp_path / "raw", few, ignore=lambda _, names: [name for name in names if int(name.split(".")[0]) >= 20])
    prepare(config(few, held_out_share=0.25), tmp_path / "grown")
    shutil.copytree(tmp_path / "raw", few, dirs_exist_ok=True)
    prepare(config(few, held_out_share=0.25), tmp_path / "grown")
    prepare(config(tmp_path / "raw", held_out_share=0.25), tmp_path / "whole")
    grown, whole = (set(ClipDataset(tmp_path / name, "held_out").keys) for name in ("grown", "whole"))
    assert grown == whole and 2 < len(grown) < 20


def test_near_duplicates_are_rejects_that_name_the_one_that_stays(tmp_path):
    curate = CurateConfig(near_duplicate_bits=4)
    for name, number, size in (("b.png", 1, 96), ("c.png", 1, 80), ("d.png", 5, 96)):
        media.write(tmp_path / "raw" / name, picture(number, 1, size, size), 1.0)
    shutil.copy(tmp_path / "raw/b.png", tmp_path / "raw/e.png")
    prepare(config(tmp_path / "raw", curate=curate), tmp_path / "out")
    found = rejects(tmp_path / "out")
    assert "b.png" in keys(tmp_path / "out") and found["e.png"] == "near-duplicate of 'b.png': 0 of 64 bits differ"
    shutil.copy(tmp_path / "raw/b.png", tmp_path / "raw/a.png")
    summary = prepare(config(tmp_path / "raw", curate=curate), tmp_path / "out")
    assert summary.added == 0 and rejects(tmp_path / "out") == found | {"a.png": found["e.png"]}
    prepare(config(tmp_path / "raw"), tmp_path / "all")
    assert keys(tmp_path / "all") == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_nothing_usable_is_an_error_that_says_what_was_found(tmp_path):
    with pytest.raises(UserError, match="does not exist, expected a folder"):
        prepare(config(tmp_path / "nowhere"), tmp_path / "out")
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        prepare(config(tmp_path / "raw"), tmp_path / "out")
    (tmp_path / "raw" / "a.txt").write_text("text")
    with pytest.raises(UserError, match="1 files, none usable; the first is 'a.txt': text, not media"):
        prepare(config(tmp_path / "raw"), tmp_path / "out")


def test_config_mistakes_are_named():
    with pytest.raises(UserError, match="data.inputs is ''"):
        DataConfig(source="files")
    for name in ("shards", "shard_mb", "workers"):
        with pytest.raises(UserError, match=f"data.{name} is 0"):
            DataConfig(**{name: 0})


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


def test_the_verb_prints_the_table_and_json(folder, tmp_path, capsys):
    (tmp_path / "c.py").write_text("import ml_collections\ndef get_config():\n    return ml_collections.ConfigDict({'model': 'vae'})\n")
    flags = ["--config.data.source=files", f"--config.data.inputs={folder}", "--config.data.workers=1", f"--output={tmp_path / 'out'}"]
    assert cli.main(["prepare", f"--config={tmp_path / 'c.py'}", *flags, "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["kept"]["train"] + found["kept"]["held_out"] == 11 and any("hours kept" in line for line in table)
    assert cli.main(["prepare", f"--config={tmp_path / 'c.py'}", *flags, "stray"]) == 2
    assert "takes no argument 'stray'; after -- come Beam's options" in capsys.readouterr().err

"""A sharded dataset opens in TFDS, is the same bytes each time, and survives a kill at any moment."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.data import shards
from videodit.data.runners import Local


def features():
    f = tfds.features
    return f.FeaturesDict(
        {"number": f.Scalar(np.int32), "blob": f.Scalar(np.object_),
         "latent": f.Tensor(shape=(None, None, 2), dtype=np.float32, encoding="bytes")}
    )  # fmt: skip


def examples(start, stop, pause_s=0.0):
    for number in range(start, stop):
        time.sleep(pause_s)
        yield {
            "number": number,
            "blob": bytes([number % 256, 255, 0]),
            "latent": np.full((number % 3 + 1, 2, 2), number, np.float32),
        }


def splits(shards_a=3, each=4, pause_s=0.0):
    cut = [functools.partial(examples, i * each, (i + 1) * each, pause_s) for i in range(shards_a)]
    return {
        "train": cut,
        "held_out": [functools.partial(examples, 100, 103)],
        "empty": [functools.partial(examples, 0, 0)],
    }


def write(directory, **changes):
    options = {
        "name": "numbers",
        "features": features(),
        "splits": splits(),
        "metadata": {"seed": 1},
        "index": ("number",),
    }
    return shards.write_shards(directory, **(options | changes))


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(pathlib.Path(directory).rglob("*")) if path.is_file()}


def test_tfds_opens_it_and_finds_every_record_in_order(tmp_path):
    summary = write(tmp_path)
    assert summary.records == {"train": 12, "held_out": 3, "empty": 0}
    builder = tfds.builder_from_directory(tmp_path)
    source = builder.as_data_source("train")
    assert [int(source[i]["number"]) for i in range(len(source))] == list(range(12))
    assert source[5]["blob"] == bytes([5, 255, 0]) and source[5]["latent"].shape == (3, 2, 2)
    assert builder.info.splits["held_out"].num_examples == 3
    assert shards.read_index(tmp_path, "train")["number"].tolist() == list(range(12))


def test_tensorflow_is_never_imported(tmp_path):
    write(tmp_path)
    assert "tensorflow" not in sys.modules


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    write(tmp_path / "one")
    write(tmp_path / "two", runner=Local(2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_writes_nothing(tmp_path):
    write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = write(tmp_path)
    assert (again.shards_written, again.shards_found) == (0, 5) and again.records["train"] == 12
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_another_origin_is_refused_and_named(tmp_path):
    write(tmp_path)
    with pytest.raises(UserError, match="seed=1, not 2"):
        write(tmp_path, metadata={"seed": 2})


def test_progress_counts_up_to_all(tmp_path):
    seen = []
    write(tmp_path, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (5, 5, 15) and [done for done, _, _ in seen] == [1, 2, 3, 4, 5]


def test_a_thunk_that_fails_leaves_the_dataset_unfinished_and_the_rest_kept(tmp_path):
    def fail():
        yield from examples(0, 2)
        raise RuntimeError("broken input")

    good = splits()
    with pytest.raises(RuntimeError, match="broken input"):
        write(tmp_path, splits=good | {"train": [*good["train"][:2], fail]})
    assert not shards.is_complete(tmp_path)
    assert write(tmp_path).shards_found == 2
    assert shards.is_complete(tmp_path) and not list(tmp_path.glob(".partial-*"))


SCRIPT = """
    import pathlib, sys
    sys.path.insert(0, {folder!r})
    import test_shards
    if __name__ == "__main__":
        test_shards.write(sys.argv[1], splits=test_shards.splits(6, 5, 0.02), runner=test_shards.Local(int(sys.argv[2])))
"""


def run(tmp_path, workers):
    script = tmp_path / "write.py"
    script.write_text(textwrap.dedent(SCRIPT.format(folder=str(pathlib.Path(__file__).parent))))
    root = str(pathlib.Path(__file__).parents[2])
    return subprocess.Popen([sys.executable, str(script), str(tmp_path / "data"), str(workers)], env=os.environ | {"PYTHONPATH": root})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_loses_no_finished_shard_and_the_next_run_completes_the_same_bytes(tmp_path, workers):
    data = tmp_path / "data"
    process = run(tmp_path, workers)
    deadline = time.monotonic() + 60
    while len(list(data.glob("numbers-train*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.3)
    kept = {path.name: path.stat().st_mtime_ns for path in data.glob("numbers-*")}
    assert len(kept) >= 2 and not shards.is_complete(data)
    time.sleep(0.5)  # worker processes must have ended with their parent
    assert kept == {path.name: path.stat().st_mtime_ns for path in data.glob("numbers-*")}
    assert run(tmp_path, workers).wait() == 0
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in data.glob("numbers-*")}.items()
    write(tmp_path / "whole", splits=splits(6, 5))
    assert contents(data) == contents(tmp_path / "whole")
    assert json.loads((data / "metadata.json").read_text())["seed"] == 1


class Numbers:
    """A thunk that says what it is about, as those of a dataset that grows do."""

    def __init__(self, start, stop):
        self.start, self.stop, self.about = start, stop, [start, stop]

    def __call__(self):
        return examples(self.start, self.stop)


def grow(directory, *ranges, **changes):
    return write(directory, splits={"train": [Numbers(*each) for each in ranges]}, grows=True, **changes)


def numbers(directory):
    source = shards.open_split(directory, "train")
    return [int(source[i]["number"]) for i in range(len(source))]


def test_a_dataset_grows_by_further_shards_and_leaves_the_old_ones_alone(tmp_path):
    grow(tmp_path, (0, 4), (4, 6))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("numbers-*")}
    summary = grow(tmp_path, (6, 9))
    assert (summary.records, summary.shards_found, summary.shards_written) == ({"train": 9}, 2, 1)
    assert numbers(tmp_path) == shards.read_index(tmp_path, "train")["number"].tolist() == list(range(9))
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("numbers-*")}.items()
    assert shards.read_about(tmp_path) == [[0, 4], [4, 6], [6, 9]] and shards.written(tmp_path) == {"train": [4, 2, 3]}


def test_while_it_grows_readers_see_the_old_dataset(tmp_path, monkeypatch):
    grow(tmp_path, (0, 4))
    old = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_tfds_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grow(tmp_path, (4, 9))
    assert contents(tmp_path)["index-train.npz"] != old["index-train.npz"]
    assert shards.read_index(tmp_path, "train")["number"].tolist() == numbers(tmp_path) == [0, 1, 2, 3]


def test_shards_of_a_broken_off_growth_are_used_only_where_they_are_about_the_same(tmp_path, monkeypatch):
    grow(tmp_path / "data", (0, 4))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_tfds_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grow(tmp_path / "data", (4, 6), (6, 8), (8, 9))
    summary = grow(tmp_path / "data", (4, 6), (7, 8))
    assert (summary.shards_found, summary.shards_written) == (2, 1) and numbers(tmp_path / "data") == [0, 1, 2, 3, 4, 5, 7]
    grow(tmp_path / "whole", (0, 4))
    grow(tmp_path / "whole", (4, 6), (7, 8))
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_a_shard_of_other_content_never_passes_for_the_one_whose_sidecar_was_just_written(tmp_path, monkeypatch):
    grow(tmp_path, (0, 4))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_tfds_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grow(tmp_path, (4, 6))
    replace = os.replace

    def stop_at_the_shard(source, place):
        if "array_record" in str(place):
            raise KeyboardInterrupt
        replace(source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_shard)
        with pytest.raises(KeyboardInterrupt):
            grow(tmp_path, (7, 8))
    grow(tmp_path, (7, 8))
    assert numbers(tmp_path) == [0, 1, 2, 3, 7]

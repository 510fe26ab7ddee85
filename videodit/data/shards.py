"""Sharded ArrayRecord datasets that TFDS opens, written so that a kill at any moment loses no finished shard.

A shard is written under a temporary name, synced and renamed; a re-run writes only the shards that are missing. The TFDS metadata comes
last, so a directory that `tfds.builder_from_directory` opens is complete. A dataset that grows gets further shards: until the new
metadata is in place, readers see the old dataset whole.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import dataclasses
import io
import json
import os
import tempfile
import threading
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data.runners import Call, Local, Runner
from videodit.data.shard import SIDECARS, Shard, ShardThunk, sidecar

# Called with (shards done, shards in all, records done).
ShardProgress = Callable[[int, int, int], None]

_COMPLETE = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"  # as `Shard.path` has it
_THREADS = 16  # that read small files, which remote stores answer slowly


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What `write_shards` wrote: records and bytes by split, (key, reason) of what was left out, and how many shards it found done."""

    records: dict[str, int]
    bytes: dict[str, int]
    left_out: list[tuple[str, str]]
    shards_found: int
    shards_written: int


def is_complete(directory: epath.PathLike) -> bool:
    """Says whether `directory` holds a whole dataset."""
    return (epath.Path(directory) / _COMPLETE).exists()


def read_metadata(directory: epath.PathLike) -> dict[str, Any]:
    """Returns the `metadata` that a dataset was written with, also while it is unfinished; {} where there is none."""
    path = epath.Path(directory) / "metadata.json"
    return json.loads(path.read_text()) if path.exists() else {}


def written(directory: epath.PathLike) -> dict[str, list[int]]:
    """Returns how many records each shard of each split holds, as the TFDS metadata has it; {} where a dataset is not complete."""
    path = epath.Path(directory) / _COMPLETE
    if not path.exists():
        return {}
    return {split["name"]: [int(each) for each in split.get("shardLengths", ())] for split in json.loads(path.read_text())["splits"]}


def read_about(directory: epath.PathLike) -> list[Any]:
    """Returns the `about` of every shard's thunk of a complete dataset; [] where it is not complete."""
    directory = epath.Path(directory)
    return [each["about"] for _, each in _read_sidecars(directory, written(directory))]


def check_origin(directory: epath.PathLike, metadata: Mapping[str, Any]) -> None:
    """Raises UserError where the directory holds a dataset, whole or begun, whose metadata differs from `metadata` in one of its keys."""
    before, metadata = read_metadata(directory), json.loads(json.dumps(metadata))
    for key in [*metadata, *before] if before else ():
        if before.get(key) != metadata.get(key):
            raise UserError(
                f"{os.fspath(directory)!r} holds a dataset made with {key}={_short(before.get(key))}, not "
                f"{_short(metadata.get(key))}: choose another directory, or delete that one"
            )


def begin(directory: epath.PathLike, metadata: Mapping[str, Any], splits: Mapping[str, Sequence[ShardThunk]], grows: bool = False) -> None:
    """Claims `directory` for a dataset made from `metadata`; `write_shards` does so itself.

    Raises:
      UserError: where the directory holds a dataset, whole or begun, that was made from something else.
    """
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if not grows:
        metadata = dict(metadata, shards={split: len(thunks) for split, thunks in splits.items()})
    check_origin(directory, metadata)
    if not read_metadata(directory):
        write_atomically(directory / "metadata.json", json.dumps(metadata, indent=2) + "\n")


_OPENING = threading.Lock()


def open_split(directory: epath.PathLike, split: str) -> Any:
    """Returns a split as TFDS's random-access source. TFDS's own opening is not safe in threads; this is."""
    with _OPENING:
        return tfds.builder_from_directory(directory).as_data_source(split)


def read_index(directory: epath.PathLike, split: str) -> dict[str, np.ndarray]:
    """Returns the columns named by `index` for every record of a split, in record order, without opening a shard."""
    directory = epath.Path(directory)
    with np.load(io.BytesIO((directory / f"index-{split}.npz").read_bytes()), allow_pickle=False) as columns:
        # While a dataset grows the index is ahead of the metadata, which says what can be read.
        records = sum(written(directory).get(split, ())) if is_complete(directory) else None
        return {name: column[:records] for name, column in columns.items()}


def write_shards(
    directory: epath.PathLike,
    *,
    name: str,
    features: tfds.features.FeaturesDict,
    splits: Mapping[str, Sequence[ShardThunk]],
    version: str = "1.0.0",
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
    index: Sequence[str] = (),
    grows: bool = False,
    runner: Runner | None = None,
    progress: ShardProgress | None = None,
    finish: Callable[[ShardSummary], None] | None = None,
) -> ShardSummary:
    """Writes a dataset, or what is missing of it.

    Args:
      directory: local or `gs://`.
      name: the dataset's name; with `version` it goes to the TFDS metadata.
      features: of a record.
      splits: for each split, one thunk a shard.
      metadata: JSON-able; what the dataset was made from. A directory begun with other metadata is refused.
      index: names of scalar features that `read_index` gives for a whole split at once.
      grows: the shards of `splits` come after those that a complete dataset already has.
      runner: executes the writing of shards; by default this process does.
      progress: called after each shard.
      finish: called once all shards are there, before the dataset counts as complete.

    Raises:
      UserError: where the directory holds a dataset, whole or begun, that was made from something else.
    """
    directory = epath.Path(directory)
    begin(directory, metadata or {}, splits, grows)
    before = written(directory) if grows else {}
    jobs = [
        Shard(
            directory=str(directory),
            name=name,
            split=split,
            number=len(before.get(split, ())) + number,
            features=features.to_json(),
            index=tuple(index),
            thunk=thunk,
        )
        for split, thunks in splits.items()
        for number, thunk in enumerate(thunks)
    ]
    found = _write_missing(jobs, runner or Local(), directory, progress)
    counts = {split: len(before.get(split, ())) + len(thunks) for split, thunks in splits.items()}
    by_split: dict[str, list[dict[str, Any]]] = {split: [] for split in splits}
    for split, each in _read_sidecars(directory, {split: range(count) for split, count in counts.items()}):
        by_split[split].append(each)
    summary = ShardSummary(
        records={split: sum(each["records"] for each in shards) for split, shards in by_split.items()},
        bytes={split: sum(each["bytes"] for each in shards) for split, shards in by_split.items()},
        left_out=[tuple(left) for shards in by_split.values() for each in shards for left in each["left_out"]],
        shards_found=found + sum(map(len, before.values())),
        shards_written=len(jobs) - found,
    )
    if finish:
        finish(summary)
    if not is_complete(directory) or (grows and jobs):
        for split, shards in by_split.items():
            write_atomically(directory / f"index-{split}.npz", _index_bytes(shards, index))
        _write_tfds_metadata(directory, name, version, description, features, by_split)
    _clean(directory, name, counts)
    return summary


def _write_missing(jobs: Sequence[Shard], runner: Runner, directory: epath.Path, progress: ShardProgress | None) -> int:
    """Writes the shards that are not there; returns how many were."""
    finished = [job.finished() for job in jobs]
    missing = [job for job, found in zip(jobs, finished) if found is None]
    done, records = len(jobs) - len(missing), sum(each["records"] for each in finished if each)
    for place in runner.run(_write, missing, directory):
        if progress:
            done, records = done + 1, records + missing[place].finished()["records"]
            progress(done, len(jobs), records)
    return len(jobs) - len(missing)


def _write(shard: Shard, call: Call) -> None:
    call(shard.write)


def _read_sidecars(directory: epath.Path, shards: Mapping[str, Sequence[Any]]):
    """Yields (split, sidecar) of the first shards of each split, as many as `shards` has for it."""
    places = [(split, number) for split, all_of_it in shards.items() for number in range(len(all_of_it))]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        texts = pool.map(lambda place: sidecar(directory, *place).read_text(), places)
        yield from ((split, json.loads(text)) for (split, _), text in zip(places, texts))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _index_bytes(shards: Sequence[Mapping[str, Any]], index: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        **{column: np.asarray([value for shard in shards for value in shard["index"][column]]) for column in index},
    )
    return buffer.getvalue()


def _write_tfds_metadata(directory: epath.Path, name: str, version: str, description: str, features, by_split) -> None:
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(version), data_dir=os.fspath(directory), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description=description or name)
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    template = tfds.core.ShardedFileTemplate(dataset_name=name, data_dir=directory, filetype_suffix="array_record", template=_TEMPLATE)
    info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[each["records"] for each in shards],
                    filename_template=template,
                    num_bytes=sum(each["bytes"] for each in shards),
                )
                for split, shards in by_split.items()
            ]
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        info.write_to_directory(epath.Path(folder))
        names = sorted(path.name for path in epath.Path(folder).iterdir())
        for file in sorted(names, key=lambda file: file == _COMPLETE):  # the one that says "complete" comes last
            write_atomically(directory / file, (epath.Path(folder) / file).read_bytes())


def _clean(directory: epath.Path, name: str, counts: Mapping[str, int]) -> None:
    """Removes what kills have left half written, and shards beyond the last one; of a complete dataset only."""
    for path in directory.iterdir():
        if path.name.startswith(".partial-"):
            path.rmtree()
    for folder in (directory, directory / SIDECARS):
        for path in folder.glob(".*.partial"):  # of `write_atomically`
            path.unlink()
    for split, count in counts.items():
        beyond = [*directory.glob(f"{name}-{split}.array_record-*"), *(directory / SIDECARS).glob(f"{split}-*.json")]
        for path in beyond:
            if int(path.stem.rpartition("-")[2] if path.suffix == ".json" else path.name.rpartition("-")[2]) >= count:
                path.unlink()

"""Sharded ArrayRecord datasets that TFDS opens, written so that a kill at any moment loses no finished shard.

A shard is written under a temporary name, synced and renamed; a re-run writes only the shards that are missing. The
TFDS metadata comes last, so a directory that `tfds.builder_from_directory` opens is complete.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import concurrent.futures
import dataclasses
import io
import json
import multiprocessing
import os
import tempfile
import threading
from typing import Any

from array_record.python import array_record_module
from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.core.files import write_atomically

# Yields the examples of one shard; it must pickle where `workers > 1` and give the same examples each time.
ShardThunk = Callable[[], Iterable[Mapping[str, Any]]]
# Called with (shards done, shards in all, records done).
ShardProgress = Callable[[int, int, int], None]

# One record a group: random access reads and unpacks only what it was asked for. Media do not compress any further.
_OPTIONS = "group_size:1,zstd:1"
_COMPLETE = "dataset_info.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What `write_shards` wrote: records and bytes by split, and how many shards it found done."""

    records: dict[str, int]
    bytes: dict[str, int]
    shards_found: int
    shards_written: int


def is_complete(directory: epath.PathLike) -> bool:
    """Says whether `directory` holds a whole dataset."""
    return (epath.Path(directory) / _COMPLETE).exists()


def read_metadata(directory: epath.PathLike) -> dict[str, Any]:
    """Returns the `metadata` that a dataset was written with, also while it is unfinished; {} where there is none."""
    path = epath.Path(directory) / "metadata.json"
    return json.loads(path.read_text()) if path.exists() else {}


def begin(directory: epath.PathLike, metadata: Mapping[str, Any], splits: Mapping[str, Sequence[ShardThunk]]) -> None:
    """Claims `directory` for a dataset made from `metadata`; `write_shards` does so itself.

    Raises:
      UserError: where the directory holds a dataset, whole or begun, that was made from something else.
    """
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _same_origin(directory, dict(metadata, shards={split: len(thunks) for split, thunks in splits.items()}))


_OPENING = threading.Lock()


def open_split(directory: epath.PathLike, split: str) -> Any:
    """Returns a split as TFDS's random-access source. TFDS's own opening is not safe in threads; this is."""
    with _OPENING:
        return tfds.builder_from_directory(directory).as_data_source(split)


def read_index(directory: epath.PathLike, split: str) -> dict[str, np.ndarray]:
    """Returns the columns named by `index` for every record of a split, in record order, without opening a shard."""
    with np.load(io.BytesIO((epath.Path(directory) / f"index-{split}.npz").read_bytes()), allow_pickle=False) as columns:
        return dict(columns)


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
    workers: int = 1,
    progress: ShardProgress | None = None,
) -> ShardSummary:
    """Writes a dataset, or what is missing of it.

    Args:
      directory: local or `gs://`.
      name: the dataset's name; with `version` it goes to the TFDS metadata.
      features: of a record.
      splits: for each split, one thunk a shard.
      metadata: JSON-able; what the dataset was made from. A directory begun with other metadata is refused.
      index: names of scalar features that `read_index` gives for a whole split at once.
      workers: processes; 1 writes in this one.
      progress: called after each shard.

    Raises:
      UserError: where the directory holds a dataset, whole or begun, that was made from something else.
    """
    directory = epath.Path(directory)
    begin(directory, metadata or {}, splits)
    jobs = [
        _Shard(
            directory=str(directory),
            name=name,
            split=split,
            number=number,
            of=len(thunks),
            features=features.to_json(),
            index=tuple(index),
            thunk=thunk,
        )
        for split, thunks in splits.items()
        for number, thunk in enumerate(thunks)
    ]
    done = {job.path.name: job.finished() for job in jobs}
    missing = [job for job in jobs if done[job.path.name] is None]
    found, total = len(jobs) - len(missing), len(jobs)
    records = sum(each["records"] for each in done.values() if each)
    for job, result in _run(missing, workers):
        done[job.path.name] = result
        records += result["records"]
        if progress:
            progress(sum(each is not None for each in done.values()), total, records)
    by_split = {split: [done[job.path.name] for job in jobs if job.split == split] for split in splits}
    if not is_complete(directory):
        for split, shards in by_split.items():
            write_atomically(directory / f"index-{split}.npz", _index_bytes(shards, index))
        _write_tfds_metadata(directory, name, version, description, features, by_split)
    _clean(directory)
    return ShardSummary(
        records={split: sum(each["records"] for each in shards) for split, shards in by_split.items()},
        bytes={split: sum(each["bytes"] for each in shards) for split, shards in by_split.items()},
        shards_found=found,
        shards_written=len(missing),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shard:
    directory: str
    name: str
    split: str
    number: int
    of: int
    features: Any
    index: tuple[str, ...]
    thunk: ShardThunk

    @property
    def path(self) -> epath.Path:
        return epath.Path(self.directory) / f"{self.name}-{self.split}.array_record-{self.number:05d}-of-{self.of:05d}"

    @property
    def sidecar(self) -> epath.Path:
        return epath.Path(self.directory) / "shards" / f"{self.split}-{self.number:05d}.json"

    def finished(self) -> dict[str, Any] | None:
        """Returns what the sidecar says of a finished shard, else None."""
        # The shard is renamed into place last, so it vouches for both.
        done = self.path.exists() and self.sidecar.exists()
        return json.loads(self.sidecar.read_text()) if done else None

    def write(self) -> dict[str, Any]:
        serialize = _serializer(tfds.features.FeaturesDict.from_json(self.features))
        columns, records, size = {column: [] for column in self.index}, 0, 0
        remote = "://" in self.directory
        with tempfile.TemporaryDirectory(dir=None if remote else self.directory, prefix=".partial-") as folder:
            partial = os.path.join(folder, "shard")
            writer = array_record_module.ArrayRecordWriter(partial, _OPTIONS)
            try:
                for example in self.thunk():
                    record = serialize(example)
                    writer.write(record)
                    records, size = records + 1, size + len(record)
                    for column in self.index:
                        columns[column].append(example[column])
            finally:
                writer.close()
            result = {"records": records, "bytes": size, "index": columns}
            write_atomically(self.sidecar, json.dumps(result))
            if remote:
                epath.Path(partial).copy(self.path, overwrite=True)
            else:
                _sync(partial)
                os.replace(partial, self.path)
                _sync(self.directory)
        return result


def _serializer(features: tfds.features.FeaturesDict) -> Callable[[Mapping[str, Any]], bytes]:
    """Returns TFDS's own encoding of a record, in a fixed order: a proto map's differs between processes."""
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())

    def serialize(example: Mapping[str, Any]) -> bytes:
        return serializer.get_tf_example(features.encode_example(example)).SerializeToString(deterministic=True)

    return serialize


def _run(shards: Sequence[_Shard], workers: int):
    """Yields (shard, result) as shards finish."""
    if workers <= 1 or len(shards) <= 1:
        for shard in shards:
            yield shard, shard.write()
        return
    with process_pool(min(workers, len(shards))) as pool:
        futures = {pool.submit(shard.write): shard for shard in shards}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def process_pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    """Returns a pool of fresh processes (no fork: the parent may hold threads) that end when the parent is killed."""
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent)


def _follow_parent() -> None:
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _same_origin(directory: epath.Path, metadata: dict[str, Any]) -> None:
    metadata = json.loads(json.dumps(metadata))
    before = read_metadata(directory)
    for key in [*metadata, *before] if before else ():
        if before.get(key) != metadata.get(key):
            raise UserError(
                f"{os.fspath(directory)!r} holds a dataset made with {key}={_short(before.get(key))}, not "
                f"{_short(metadata.get(key))}: choose another directory, or delete that one"
            )
    if not before:
        write_atomically(directory / "metadata.json", json.dumps(metadata, indent=2) + "\n")


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
    template = tfds.core.ShardedFileTemplate(dataset_name=name, data_dir=directory, filetype_suffix="array_record")
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


def _clean(directory: epath.Path) -> None:
    """Removes what kills have left half written; of a complete dataset only."""
    for path in directory.iterdir():
        if path.name.startswith(".partial-"):
            path.rmtree()
    for folder in (directory, directory / "shards"):
        for path in folder.glob(".*.partial"):  # of `write_atomically`
            path.unlink()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

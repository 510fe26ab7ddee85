"""One shard: a file of records, and a sidecar that says what is in it, written so that a kill leaves both whole or neither."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import json
import os
import tempfile
from typing import Any

from array_record.python import array_record_module
from etils import epath
import tensorflow_datasets as tfds

from videodit.core.files import is_remote, publish, write_atomically


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What a thunk yields in place of an example that cannot be made."""

    key: str
    reason: str


# Yields the examples of one shard; it must pickle where other processes write, and give the same examples each time.
# It may have an attribute `about`, JSON-able, which the sidecar keeps: a shard whose thunk says something else is written again.
ShardThunk = Callable[[], Iterable[Mapping[str, Any] | LeftOut]]

SIDECARS = "shards"
# One record a group: random access reads and unpacks only what it was asked for. Media do not compress any further.
_OPTIONS = "group_size:1,zstd:1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """Shard `number` of a split, with the examples of `thunk`; `features` as JSON, `index` the features that its sidecar lists."""

    directory: str
    name: str
    split: str
    number: int
    features: Any
    index: tuple[str, ...]
    thunk: ShardThunk

    @property
    def path(self) -> epath.Path:
        """Where its records are."""
        # No total in the name: a dataset may grow.
        return epath.Path(self.directory) / f"{self.name}-{self.split}.array_record-{self.number:05d}"

    @property
    def sidecar(self) -> epath.Path:
        """Where it is said what they are."""
        return sidecar(self.directory, self.split, self.number)

    @property
    def about(self) -> Any:
        """What the thunk says of itself."""
        return getattr(self.thunk, "about", None)

    def finished(self) -> dict[str, Any] | None:
        """Returns the sidecar, {"records", "bytes", "index", "left_out", "about"}, of a finished shard of this very content, else None."""
        # The shard is renamed into place last, so it vouches for both.
        if not (self.path.exists() and self.sidecar.exists()):
            return None
        found = json.loads(self.sidecar.read_text())
        return found if found["about"] == self.about else None

    def write(self) -> None:
        """Writes the sidecar, then the shard."""
        serialize = _serializer(tfds.features.FeaturesDict.from_json(self.features))
        columns, left_out, records, size = {column: [] for column in self.index}, [], 0, 0
        with tempfile.TemporaryDirectory(dir=None if is_remote(self.directory) else self.directory, prefix=".partial-") as folder:
            partial = os.path.join(folder, "shard")
            writer = array_record_module.ArrayRecordWriter(partial, _OPTIONS)
            try:
                for example in self.thunk():
                    if isinstance(example, LeftOut):
                        left_out.append([example.key, example.reason])
                        continue
                    record = serialize(example)
                    writer.write(record)
                    records, size = records + 1, size + len(record)
                    for column in self.index:
                        columns[column].append(example[column])
            finally:
                writer.close()
            if self.path.exists():  # of another content: it must not vouch for the new sidecar
                self.path.unlink()
            said = {"records": records, "bytes": size, "index": columns, "left_out": left_out, "about": self.about}
            write_atomically(self.sidecar, json.dumps(said))
            publish(partial, self.path)


def sidecar(directory: epath.PathLike, split: str, number: int) -> epath.Path:
    """Returns the path of a shard's sidecar."""
    return epath.Path(directory) / SIDECARS / f"{split}-{number:05d}.json"


def _serializer(features: tfds.features.FeaturesDict) -> Callable[[Mapping[str, Any]], bytes]:
    """Returns TFDS's own encoding of a record, in a fixed order: a proto map's differs between processes."""
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())

    def serialize(example: Mapping[str, Any]) -> bytes:
        return serializer.get_tf_example(features.encode_example(example)).SerializeToString(deterministic=True)

    return serialize

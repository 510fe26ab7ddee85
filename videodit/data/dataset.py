"""The dataset of clips: what a record holds, and random access to it.

A record holds the encoded file and not frames, so preparing keeps native sizes and a clip costs what its file costs.
"""

import bisect
from collections.abc import Mapping, Sequence
import hashlib
import json
import os
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.data import media, shards

NAME = "clips"
# Features that the sizes table knows for all clips without opening a record.
INDEX = ("key", "frames", "height", "width", "fps")


def features() -> tfds.features.FeaturesDict:
    """Returns the features of a record; sizes are those of the upright picture, `frames` and `fps` the file's own."""
    f = tfds.features
    return f.FeaturesDict(
        {
            "key": f.Text(doc="unique and stable: the input's name, #k after it for the k-th of several clips; or the number in a world"),
            "media": f.Scalar(np.object_, doc="the bytes of a video or image file"),
            "format": f.Text(doc="of those bytes: mp4, webm, png, jpeg, ..."),
            "height": f.Scalar(np.int32),
            "width": f.Scalar(np.int32),
            "frames": f.Scalar(np.int32),
            "fps": f.Scalar(np.float32),
            "captions": {"original": f.Text(), "descriptive": f.Text()},
            "source": f.Text(doc="where the clip comes from"),
            "state": f.Text(doc="JSON of a world's true state; empty for real clips"),
        }
    )


class ClipDataset:
    """The clips of one split in fixed order, a random-access source for grain; it pickles, and reopens in a worker.

    `dataset[i]` is a dict of the record's features, strings as `str`, media as `bytes`. `sizes` is `int32 [n, 3]`
    (frames, height, width), `fps` is `float32 [n]`, `keys` a list of n: all known without opening a record.

    Raises:
      UserError: where the directory holds no finished dataset, or the split does not exist.
    """

    def __init__(self, directory: epath.PathLike, split: str = "train"):
        self.directory, self.split = epath.Path(directory), split
        if not shards.is_complete(self.directory):
            raise UserError(
                f"{os.fspath(self.directory)!r} holds no finished dataset: run `videodit prepare` on it first"
            )
        if not (self.directory / f"index-{split}.npz").exists():
            known = sorted(path.name[6:-4] for path in self.directory.glob("index-*.npz"))
            raise UserError(
                f"the dataset {os.fspath(self.directory)!r} has no split {split!r}; it has {', '.join(known)}"
            )
        index = shards.read_index(self.directory, split)
        self.keys: list[str] = index["key"].tolist()
        self.sizes = np.stack([index["frames"], index["height"], index["width"]], axis=-1).astype(np.int32)
        self.fps = index["fps"].astype(np.float32)
        self._source = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell this split's clips and order from any other's."""
        index = shards.read_index(self.directory, self.split)
        said = [shards.read_metadata(self.directory), {name: column.tolist() for name, column in index.items()}]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if self._source is None:
            self._source = shards.open_split(self.directory, self.split)
        return _to_python(self._source[int(i)])

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _source=None)

    def __repr__(self) -> str:  # grain compares it when an iterator is restored
        return f"ClipDataset({os.fspath(self.directory)!r}, {self.split!r})"


class JoinedClips:
    """Several data sets as one, a random-access source for grain: the clips of `parts` one after another, `[i]`, `keys`, `sizes` and `fps`
    as those of `ClipDataset`."""

    def __init__(self, parts: Sequence[ClipDataset]):
        self.parts = tuple(parts)
        self.keys = [key for part in parts for key in part.keys]
        self.sizes = np.concatenate([part.sizes for part in parts])
        self.fps = np.concatenate([part.fps for part in parts])
        self._firsts = np.cumsum([0, *map(len, parts)]).tolist()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> dict[str, Any]:
        part = bisect.bisect_right(self._firsts, int(i)) - 1
        return self.parts[part][int(i) - self._firsts[part]]


def decode_record(
    record: Mapping[str, Any],
    *,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns `uint8 [T, H, W, 3]` sRGB of a record; the arguments are those of `media.decode`.

    Raises:
      MediaError: naming the record's key.
    """
    try:
        return media.decode(record["media"], fps=fps, start=start, frames=frames, size=size)
    except media.MediaError as error:
        raise media.MediaError(f"{record['key']}: {error}") from error


def _to_python(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _to_python(each, key) for key, each in value.items()}
    if isinstance(value, bytes):
        return value if name == "media" else value.decode()
    return value.item() if isinstance(value, np.generic) else value

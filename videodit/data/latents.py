"""The data set of latents: what a record holds, and random access to it."""

import json
import os
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.data import shards

NAME = "latents"
KINDS = ("original", "descriptive")  # of captions
INDEX = ("key", "frames", "height", "width", *(f"{kind}_tokens" for kind in KINDS))
CONTENTS = "contents.json"
TOKENIZER = "tokenizer.model"


def features() -> tfds.features.FeaturesDict:
    """Features of a record: one window of a clip. `frames`, `height` and `width` are of the latent."""
    f = tfds.features
    return f.FeaturesDict(
        {
            "key": f.Text(doc="the clip's key and, after '@', where in it the window starts, in seconds"),
            "latents": f.Scalar(np.object_, doc="float32 little-endian bytes of [frames, height, width, channels]"),
            "frames": f.Scalar(np.int32),
            "height": f.Scalar(np.int32),
            "width": f.Scalar(np.int32),
            "captions": {kind: f.Text() for kind in KINDS},
            **{f"{kind}_tokens": f.Scalar(np.int32, doc="text tokens of that caption, uncut; 0 where there is none") for kind in KINDS},
        }
    )


class LatentDataset:
    """The latents of one split in fixed order, a random-access source for grain; it pickles, and reopens in a worker.

    `dataset[i]` holds `key`, `captions` and `latents`, float32 `[T', H', W', C]`, normalised by the statistics of the VAE that
    made them. Known without opening a record: `sizes`, int32 `[n, 3]` of latent (frames, height, width), and `text_tokens`, for each kind
    of caption int32 `[n]`, uncut, 0 where there is none. `stored` says whether there are latents, or they are made while training.
    """

    def __init__(self, directory: epath.PathLike, split: str = "train"):
        self.directory, self.split = epath.Path(directory), split
        if not shards.is_complete(self.directory):
            raise UserError(f"{os.fspath(directory)!r} holds no finished latents: run `videodit encode` first")
        contents = json.loads((self.directory / CONTENTS).read_text())
        self.channels: int = contents["channels"]
        self.vae_fingerprint: str = contents["vae_fingerprint"]
        self.stored: bool = contents["stored"]
        self.dataset_fingerprint: str = contents["dataset"]
        index = shards.read_index(self.directory, split)
        self.sizes = np.stack([index["frames"], index["height"], index["width"]], axis=-1).astype(np.int32)
        self.text_tokens = {kind: index[f"{kind}_tokens"] for kind in KINDS}
        self._keys = index["key"]
        self._source = None

    def key_of(self, i: int) -> str:
        """The key of record `i`."""
        return str(self._keys[i])

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> dict[str, Any]:
        record = self.read(i)
        return record | {"latents": np.frombuffer(record["latents"], "<f4").reshape(*self.sizes[i].tolist(), self.channels)}

    def read(self, i: int) -> dict[str, Any]:
        """Record `i` with its latents as bytes, empty where none were stored."""
        if self._source is None:
            self._source = shards.open_split(self.directory, self.split)
        record = self._source[int(i)]
        captions = {kind: text.decode() for kind, text in record["captions"].items()}
        return {"clip": int(i), "key": record["key"].decode(), "latents": record["latents"], "captions": captions}

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _source=None)

    def __repr__(self) -> str:  # grain compares it when an iterator is restored
        return f"LatentDataset({os.fspath(self.directory)!r}, {self.split!r})"

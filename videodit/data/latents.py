"""The data set of latents: what a record holds, and random access to it."""

from collections.abc import Mapping, Sequence
import io
import json
import os
from typing import Any

from etils import epath
import ml_dtypes
import numpy as np
import tensorflow_datasets as tfds

from videodit.core.errors import UserError
from videodit.data import shards

NAME = "latents"
KINDS = ("original", "descriptive")  # of captions
INDEX = ("key", "frames", "height", "width", *(f"{kind}_tokens" for kind in KINDS))
CONTENTS = "contents.json"
EMPTY_TEXT = "empty_text.npz"  # embeddings of the empty caption, a part for each encoder


def features(encoders: int = 0, stored: bool = True) -> tfds.features.FeaturesDict:
    """Features of a record: one window of a clip. `frames`, `height` and `width` are of the latent. The embeddings of so many `encoders`
    are in it where they are `stored`."""
    f = tfds.features
    embeddings = {str(part): f.Scalar(np.object_, doc="bfloat16 little-endian bytes of [tokens, channels]") for part in range(encoders)}
    counts = f.Tensor(shape=(max(1, encoders),), dtype=np.int32, doc="text tokens of that caption by each encoder, uncut; 0 without one")
    return f.FeaturesDict(
        {
            "key": f.Text(doc="the clip's key and, after '@', where in it the window starts, in seconds"),
            "latents": f.Scalar(np.object_, doc="float32 little-endian bytes of [frames, height, width, channels]"),
            "frames": f.Scalar(np.int32),
            "height": f.Scalar(np.int32),
            "width": f.Scalar(np.int32),
            "captions": {kind: f.Text() for kind in KINDS},
            **({"text": {kind: embeddings for kind in KINDS}} if encoders and stored else {}),
            **{f"{kind}_tokens": counts for kind in KINDS},
        }
    )


def empty_bytes(text: Sequence[np.ndarray]) -> bytes:
    """The embeddings of the empty caption as a file, which `read_empty` reads."""
    buffer = io.BytesIO()
    np.savez(buffer, *[part.view(np.uint16) for part in text])  # numpy's format knows no bfloat16
    return buffer.getvalue()


def read_empty(path: epath.Path) -> tuple[np.ndarray, ...]:
    """bfloat16 `[tokens, channels]` of each encoder."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return tuple(arrays[name].view(ml_dtypes.bfloat16) for name in arrays.files)


class LatentDataset:
    """The latents of one split in fixed order, a random-access source for grain; it pickles, and reopens in a worker.

    `dataset[i]` holds `key`, `captions` and `latents`, float32 `[T', H', W', C]`, normalised by the statistics of the VAE that
    made them; where public encoders have read the captions, `text` too: by kind of caption, "" the empty one, bfloat16 `[tokens, channels]`
    of each encoder. Known without opening a record: `sizes`, int32 `[n, 3]` of latent (frames, height, width), and `text_tokens`, for each
    kind of caption int `[n, parts]` by each encoder, uncut, 0 where there is none. `stored` says whether there are latents and embeddings,
    or they are made while training; `text_identity`, what made the text tokens; `fps`, the frames a second that videos were taken at.
    """

    def __init__(self, directory: epath.PathLike, split: str = "train"):
        self.directory, self.split = epath.Path(directory), split
        if not shards.is_complete(self.directory):
            raise UserError(f"{os.fspath(directory)!r} holds no finished latents: run `videodit encode` first")
        contents = json.loads((self.directory / CONTENTS).read_text())
        try:
            self.channels: int = contents["channels"]
            self.vae_fingerprint: str = contents["vae_fingerprint"]
            self.stored: bool = contents["stored"]
            self.fps: float = contents["policy"]["fps"]
            self.dataset_fingerprint: str = contents["dataset"]
            self.text_identity: dict[str, Any] = contents["text"]
        except KeyError as error:
            raise UserError(
                f"{os.fspath(directory)!r} holds latents of another form, without {error}: encode into another directory"
            ) from error
        encoders = self.text_identity.get("encoders", ())
        self._text_widths = [each["width"] for each in encoders] if self.stored else []
        self._empty = read_empty(self.directory / EMPTY_TEXT) if self._text_widths else None
        index = shards.read_index(self.directory, split)
        self.sizes = np.stack([index["frames"], index["height"], index["width"]], axis=-1).astype(np.int32)
        self.text_tokens = {kind: index[f"{kind}_tokens"].reshape(-1, max(1, len(encoders))) for kind in KINDS}
        self._keys = index["key"]
        self._source = None

    def key_of(self, i: int) -> str:
        """The key of record `i`."""
        return str(self._keys[i])

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> dict[str, Any]:
        record = self.read(i)
        if self._text_widths:
            record["text"] = {kind: self._embeddings(each) for kind, each in record["text"].items()} | {"": self._empty}
        return record | {"latents": np.frombuffer(record["latents"], "<f4").reshape(*self.sizes[i].tolist(), self.channels)}

    def _embeddings(self, parts: Mapping[str, bytes]) -> tuple[np.ndarray, ...]:
        return tuple(np.frombuffer(parts[str(part)], ml_dtypes.bfloat16).reshape(-1, width) for part, width in enumerate(self._text_widths))

    def read(self, i: int) -> dict[str, Any]:
        """Record `i` with its latents, and its text where it has any, as bytes, empty where none were stored."""
        if self._source is None:
            self._source = shards.open_split(self.directory, self.split)
        record = self._source[int(i)]
        captions = {kind: text.decode() for kind, text in record["captions"].items()}
        found = {"clip": int(i), "key": record["key"].decode(), "latents": record["latents"], "captions": captions}
        return found | ({"text": record["text"]} if self._text_widths else {})

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _source=None)

    def __repr__(self) -> str:  # grain compares it when an iterator is restored
        return f"LatentDataset({os.fspath(self.directory)!r}, {self.split!r})"

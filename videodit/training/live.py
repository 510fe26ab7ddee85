"""Training from the clips themselves: latents that a frozen VAE makes as training comes to them."""

import os

from etils import epath
import numpy as np

from videodit.core.errors import UserError
from videodit.data.dataset import ClipDataset
from videodit.data.latents import LatentDataset
from videodit.data.pipeline import Window, read_window
from videodit.training.config import ExperimentConfig, dataset_path, vae_path
from videodit.training.encode import padded
from videodit.training.restore import load_vae


class LiveLatents:
    """As a LatentDataset, of an `encode` that stored none: `[i]` decodes and encodes the window, alone and always in the same way.

    Raises UserError where the VAE or the data set is not the one that the `encode` was of.
    """

    def __init__(self, index: LatentDataset, config: ExperimentConfig, workdir: epath.PathLike):
        self._index, self._dataset = index, ClipDataset(dataset_path(config, workdir))
        self._vae, self.fps = load_vae(vae_path(config, workdir)), index.fps
        self.directory, self.channels, self.vae_fingerprint = index.directory, index.channels, index.vae_fingerprint
        self.sizes, self.text_tokens, self.key_of = index.sizes, index.text_tokens, index.key_of
        self.text_identity = index.text_identity
        for what, made, here in (
            ("VAE", index.vae_fingerprint, self._vae.fingerprint),
            ("data set", index.dataset_fingerprint, self._dataset.fingerprint),
        ):
            if made != here:
                raise UserError(
                    f"{os.fspath(index.directory)!r} was made with {what} {made[:12]}, the {what} at hand is {here[:12]}: "
                    "run `videodit encode` into another latents.path, or bring that one back"
                )
        self._records = {key: record for record, key in enumerate(self._dataset.keys)}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> dict:
        record = self._index.read(i)
        clip, _, start = record["key"].rpartition("@")
        stride = self._vae.model.config.stride
        frames, height, width = self.sizes[i].tolist()
        window = Window(
            record=self._records[clip],
            start=float(start),
            frames=1 + (frames - 1) * stride[0],
            height=height * stride[1],
            width=width * stride[2],
        )
        pixels = read_window(self._dataset, window, self.fps, padded(window.frames, stride[0]))
        return record | {"latents": np.ascontiguousarray(self._vae.encode(pixels[None])[0, :frames])}

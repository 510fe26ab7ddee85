"""Samples of any size to packed rows of one length: text tokens, then spacetime patches, one sample after another.

NaViT (Dehghani et al., "Patch n' Pack", 2023), section 2.1, by grain's packers.
"""

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from videodit.core.errors import UserError
from videodit.core.patches import grid, patch_positions, patchify, text_positions
from videodit.core.segments import PATCH, TEXT

# What a row holds, and the shape of one token of it; `patches` has a trailing axis of its own.
TOKEN_FEATURES = ("patches", "text_ids", "modality", "positions", "extent", "clip")


def tokens_of(latents: np.ndarray, text_ids: np.ndarray, patch: tuple[int, int, int], clip: int = 0) -> dict[str, np.ndarray]:
    """One sample as tokens: features of length n (text) + m (patches).

    `latents` is `[T', H', W', C]`. Returns `patches` float32 `[n + m, P]` (zeros at text), `text_ids`, `modality` and `clip` int32
    `[n + m]`, `positions` and `extent` int32 `[n + m, 3]`, the latter the clip's size in patches.
    """
    patches = patchify(latents, patch)
    size = grid(latents.shape, patch)
    n, m = len(text_ids), len(patches)
    return {
        "patches": np.concatenate([np.zeros((n, patches.shape[1]), np.float32), patches.astype(np.float32)]),
        "text_ids": np.concatenate([text_ids.astype(np.int32), np.zeros(m, np.int32)]),
        "modality": np.concatenate([np.full(n, TEXT, np.int32), np.full(m, PATCH, np.int32)]),
        "positions": np.concatenate([text_positions(n), patch_positions(size)]),
        "extent": np.tile(np.asarray(size, np.int32), (n + m, 1)),
        "clip": np.full(n + m, clip, np.int32),
    }


def concatenate_rows(rows: Sequence[Sequence[dict[str, np.ndarray]]], length: int) -> dict[str, np.ndarray]:
    """Rows of samples, as `tokens_of` gives them, to one batch `[rows, length, ...]` with `segment_ids`; the rest is padding.
    A row may be empty.

    Raises ValueError where a row's samples are longer than `length`.
    """
    first = next(sample for row in rows for sample in row)
    batch = {name: np.zeros((len(rows), length, *first[name].shape[1:]), first[name].dtype) for name in TOKEN_FEATURES}
    batch["segment_ids"] = np.zeros((len(rows), length), np.int32)
    for r, row in enumerate(rows):
        start = 0
        for number, sample in enumerate(row, start=1):
            stop = start + len(sample["text_ids"])
            if stop > length:
                raise ValueError(f"a row of {length} tokens cannot hold {sum(len(each['text_ids']) for each in row)}")
            for name in TOKEN_FEATURES:
                batch[name][r, start:stop] = sample[name]
            batch["segment_ids"][r, start:stop] = number
            start = stop
    return batch


def _finish(packed: dict[str, Any]) -> dict[str, np.ndarray]:
    """Keeps one set of segment ids of those that grain adds a feature."""
    row = {name: np.asarray(packed[name]) for name in TOKEN_FEATURES}
    row["segment_ids"] = np.asarray(packed["patches_segment_ids"], np.int32)
    return row


def pack(samples: grain.IterDataset, length: int, rows: int, bins: int, seed: int) -> grain.IterDataset:
    """Batches `[rows, length, ...]` of packed samples; `bins` rows are filled side by side, more of them pad less."""
    if length < 1 or rows < 1 or bins < 1:
        raise UserError(f"packing into rows={rows} of length={length} with bins={bins}: each must be 1 or more")
    packed = grain.experimental.FirstFitPackIterDataset(
        samples, length_struct={name: length for name in TOKEN_FEATURES}, num_packing_bins=bins, seed=seed, shuffle_bins=True
    )
    return packed.map(_finish).batch(rows, drop_remainder=True)

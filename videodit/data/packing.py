"""Samples of any size to packed rows of one length: text tokens, then spacetime patches, one sample after another.

NaViT (Dehghani et al., "Patch n' Pack", 2023), section 2.1. Rows are packed from lengths alone, before any sample is read. What a text
token holds, which may be thousands of numbers, lies in a shorter row beside it that holds text alone; the row says where.
"""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np

from videodit.core.patches import grid, patch_positions, patchify, text_positions
from videodit.core.segments import PATCH, TEXT, text_name

# What a row holds, and the shape of one token of it; `patches` has a trailing axis of its own.
TOKEN_FEATURES = ("patches", "modality", "positions", "extent", "time_step", "clip")

Sample = dict[str, Any]  # as `tokens_of` gives it


def tokens_of(
    latents: np.ndarray, text: Sequence[np.ndarray], patch: tuple[int, int, int], clip: int = 0, time_step: float = 1.0
) -> Sample:
    """One sample as tokens: features of length n (text) + m (patches), and `text` as it is.

    `latents` is `[T', H', W', C]`; `text` has a part `[n_i, ...]` from each of one or more encoders, n tokens in all; a frame of a video
    lasts `time_step` times as long as one at the rate that the model is trained for. Returns `patches` float32 `[n + m, P]` (zeros at
    text), `modality` and `clip` int32 `[n + m]`, `positions` and `extent` int32 `[n + m, 3]`, the latter the clip's size in patches, and
    `time_step` float32 `[n + m]`, 1 for a still.
    """
    patches = patchify(latents, patch)
    size = grid(latents.shape, patch)
    n, m = sum(map(len, text)), len(patches)
    return {
        "text": tuple(text),
        "patches": np.concatenate([np.zeros((n, patches.shape[1]), np.float32), patches.astype(np.float32)]),
        "modality": np.concatenate([np.full(n, TEXT, np.int32), np.full(m, PATCH, np.int32)]),
        "positions": np.concatenate([text_positions(n), patch_positions(size)]),
        "extent": np.tile(np.asarray(size, np.int32), (n + m, 1)),
        "time_step": np.full(n + m, time_step if len(latents) > 1 else 1.0, np.float32),
        "clip": np.full(n + m, clip, np.int32),
    }


def length_of(sample: Sample) -> int:
    """Tokens of a sample, text and patches."""
    return len(sample["modality"])


def text_length(tokens: int) -> int:
    """Slots of a row of text that is to hold `tokens`: a multiple of 8, and from 128 on of 128, as kernels take."""
    step = 8 if tokens <= 128 else 128
    return max(1, -(-tokens // step)) * step


def text_lengths(rows: Sequence[Sequence[Sample]]) -> tuple[int, ...]:
    """Slots of each part that hold the text of the fullest of `rows`."""
    parts = len(next(sample for row in rows for sample in row)["text"])
    return tuple(text_length(max(sum(len(sample["text"][part]) for sample in row) for row in rows)) for part in range(parts))


def concatenate_rows(rows: Sequence[Sequence[Sample]], length: int, slots: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Rows of samples, as `tokens_of` gives them, to one batch; what they leave is padding, zeros. A row may be empty.

    Returns `[rows, length, ...]` of each of `TOKEN_FEATURES`, `segment_ids` (0 is padding), and `text_place`: where along the text a text
    token lies, 0 at all others. The text: `text_i` `[rows, slots[i], ...]` of each part, one after another; `text_segment_ids` and
    `text_positions`, the place in its sample's text, int32 `[rows, sum of slots]`. `slots` are by default as many as are needed.

    Raises ValueError where a row's samples are longer than `length`, or their text than `slots`.
    """
    slots = text_lengths(rows) if slots is None else tuple(slots)
    first = next(sample for row in rows for sample in row)
    batch = {name: np.zeros((len(rows), length, *first[name].shape[1:]), first[name].dtype) for name in TOKEN_FEATURES}
    batch |= {name: np.zeros((len(rows), length), np.int32) for name in ("segment_ids", "text_place")}
    batch |= {name: np.zeros((len(rows), sum(slots)), np.int32) for name in ("text_segment_ids", "text_positions")}
    for part, (count, array) in enumerate(zip(slots, first["text"], strict=True)):
        batch[text_name(part)] = np.zeros((len(rows), count, *array.shape[1:]), array.dtype)
    for r, row in enumerate(rows):
        start, filled = 0, [0] * len(slots)
        for number, sample in enumerate(row, start=1):
            stop = start + length_of(sample)
            if stop > length:
                raise ValueError(f"a row of {length} tokens cannot hold {sum(map(length_of, row))}")
            for name in TOKEN_FEATURES:
                batch[name][r, start:stop] = sample[name]
            batch["segment_ids"][r, start:stop] = number
            places = _add_text(batch, r, number, sample["text"], slots, filled)
            batch["text_place"][r, start : start + len(places)] = places
            start = stop
    return batch


def _add_text(batch: dict[str, np.ndarray], row: int, number: int, text: Sequence[np.ndarray], slots: Sequence[int], filled: list[int]):
    """Adds a sample's text to its row, and counts it in `filled`. Returns where its tokens lie along the row's text."""
    places, before = [], 0
    for part, array in enumerate(text):
        stop = filled[part] + len(array)
        if stop > slots[part]:
            raise ValueError(f"a row of {slots[part]} text tokens cannot hold {stop}")
        batch[text_name(part)][row, filled[part] : stop] = array
        places.append(np.arange(before + filled[part], before + stop, dtype=np.int32))
        filled[part], before = stop, before + slots[part]
    places = np.concatenate(places)
    batch["text_segment_ids"][row, places] = number
    batch["text_positions"][row, places] = np.arange(len(places))
    return places


def pack_rows(lengths: Sequence[int], first: int, length: int, rows: int) -> tuple[list[list[int]], list[int]]:
    """Fills at most `rows` rows of `length` tokens with samples of `lengths`; returns the samples of each row, and those left over.

    The first `first` samples have waited before: each opens a row before any other does, so none waits for long. After them the longest
    opens a row, and the fewest others that fill it to within a hundredth close it: long clips first, short ones and stills in the gaps.
    """
    spare = sorted((n, i) for i, n in enumerate(lengths))
    opening = [*range(first), *sorted(range(first, len(lengths)), key=lambda i: (-lengths[i], i))]
    filled, used = [], set()
    for opener in opening:
        if len(filled) == rows:
            break
        if opener in used:
            continue
        row = [(lengths[opener], opener)]
        spare.pop(bisect.bisect_left(spare, row[0]))
        for each in _closing(spare, length - lengths[opener], length // 100):
            spare.pop(bisect.bisect_left(spare, each))
            row.append(each)
        filled.append([i for _, i in row])
        used.update(filled[-1])
    return filled, [i for i in opening if i not in used]


# A sample that could lie in a row: (tokens, number); lists of them ascend.
_Spare = tuple[int, int]


# How many samples are looked at to fill a gap, spread evenly over those that fit; and how many of these as the longest of three or more.
_SEEN, _TRIED = 128, 8


def _fitting(spare: Sequence[_Spare], gap: int) -> Sequence[_Spare]:
    return spare[: bisect.bisect_right(spare, gap, key=lambda each: each[0])]


def _thinned(spare: Sequence[_Spare]) -> Sequence[_Spare]:
    """At most about `_SEEN` of them, the longest always."""
    return spare[:: -max(1, len(spare) // _SEEN)][::-1]


def _total(chosen: Sequence[_Spare]) -> int:
    return sum(n for n, _ in chosen)


def _closing(spare: Sequence[_Spare], gap: int, tolerance: int) -> list[_Spare]:
    """The fewest of `spare` that fill `gap` to within `tolerance`; where none do, those that fill it best of the ones that are tried."""
    spare = _thinned(_fitting(spare, gap))
    best = _one_or_two(spare, gap, tolerance)
    if gap - _total(best) <= tolerance:
        return best
    for last in range(len(spare) - 1, -1, -max(1, len(spare) // _TRIED)):
        left = gap - spare[last][0]
        tried = [spare[last], *_greedily(_fitting(spare[:last], left), left)]
        best = max(best, tried, key=_total)
        if gap - _total(best) <= tolerance:
            break
    return best


def _greedily(spare: Sequence[_Spare], gap: int) -> list[_Spare]:
    """The longest that fit, one after another, and the best two at the end."""
    chosen: list[_Spare] = []
    while spare and gap > 2 * spare[-1][0]:
        chosen.append(spare[-1])
        gap -= spare[-1][0]
        spare = _fitting(spare[:-1], gap)
    return chosen + _one_or_two(spare, gap, 0)


def _one_or_two(spare: Sequence[_Spare], gap: int, tolerance: int) -> list[_Spare]:
    """The one or two of `spare`, all of which fit, that fill the gap best; one where it is within `tolerance`."""
    best = list(spare[-1:])
    if gap - _total(best) <= tolerance:
        return best
    low, high = 0, len(spare) - 1
    while low < high and gap - _total(best) > tolerance:
        total = spare[low][0] + spare[high][0]
        if total > gap:
            high -= 1
        else:
            if total > _total(best):
                best = [spare[low], spare[high]]
            low += 1
    return best

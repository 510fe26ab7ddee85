"""What a dataset holds, in figures: counts by split, sizes, durations, captions, and what was left out and why."""

import collections
import json
from typing import Any

from etils import epath
import numpy as np

from videodit.data import shards
from videodit.data.result import plain

_EXAMPLES = 3


def is_dataset(path: epath.PathLike) -> bool:
    """Says whether `path` is a dataset's directory, whole or only begun."""
    path = epath.Path(path)
    return shards.is_complete(path) or bool(shards.read_metadata(path))


def summarise(directory: epath.PathLike, examples: int = _EXAMPLES) -> dict[str, Any]:
    """Returns a dataset's figures as JSON values.

    Keys: `complete`; `made_from` (its metadata); `splits`: for each its `clips`, `images` (clips of one frame), `seconds`,
    `fps`, `frames` ([least, most]) and `sizes` ([{"height", "width", "clips"}], the most common first); `captions` (examples);
    `rejects`: {reason: count}. Where a dataset is unfinished, `splits` is empty.
    """
    directory = epath.Path(directory)
    complete = shards.is_complete(directory)
    names = sorted(path.name[len("index-") : -len(".npz")] for path in directory.glob("index-*.npz"))
    return {
        "complete": complete,
        "made_from": shards.read_metadata(directory),
        "splits": {name: _split(shards.read_index(directory, name)) for name in names},
        "captions": _captions(directory, names, examples) if complete and examples else [],
        "rejects": _rejects(directory),
    }


def _split(index: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {"clips": len(next(iter(index.values()), ()))}
    if not found["clips"] or not {"frames", "height", "width"} <= index.keys():
        return found
    frames, sizes = index["frames"], np.stack([index["height"], index["width"]], axis=-1)
    found["images"] = int((frames == 1).sum())
    found["frames"] = [int(frames.min()), int(frames.max())]
    if "fps" in index:
        moving = (frames > 1) & (index["fps"] > 0)
        seconds = frames[moving] / index["fps"][moving]
        found["seconds"] = round(float(seconds.sum()), 3)
        found["clip_seconds"] = [round(float(seconds.min()), 3), round(float(seconds.max()), 3)] if moving.any() else None
        found["fps"] = sorted({round(float(each), 3) for each in index["fps"][moving]})
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found["sizes"] = [
        {"height": int(unique[i][0]), "width": int(unique[i][1]), "clips": int(counts[i])} for i in order
    ]
    return found


def _captions(directory: epath.Path, splits: list[str], examples: int) -> list[dict[str, str]]:
    from videodit.data.dataset import ClipDataset

    split = "train" if "train" in splits else next(iter(splits), None)
    if split is None:
        return []
    clips = ClipDataset(directory, split)
    chosen = np.linspace(0, len(clips) - 1, min(examples, len(clips))).astype(int)
    found = [clips[i].get("captions") for i in chosen]
    return [each for each in found if each]


def _rejects(directory: epath.Path) -> dict[str, int]:
    path = directory / "rejects.jsonl"
    if not path.exists():
        return {}
    reasons = collections.Counter()
    for line in path.read_text().splitlines():
        if line.strip():
            reasons[plain(str(json.loads(line).get("reason", "no reason given")))] += 1
    return dict(reasons.most_common())

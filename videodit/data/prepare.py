"""Prepares a dataset of clips from the built-in worlds or from a folder of media files.

Everything that goes in comes out as a record or as a line of `rejects.jsonl` with the reason. A run that was killed
goes on where it
was: checked files stay checked, finished shards stay finished.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import json
import re
import time
from typing import Any, Literal

from etils import epath
import numpy as np
import rich.table

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.data import dataset, media, shards
from videodit.data import folder as folders
from videodit.data.worlds import WorldsConfig, WorldsSource

Progress = Callable[[str, int, int], None]  # (stage, done, total); the stages are "check" (files) and "write" (shards)

# A folder with this many usable clips gives at least one to the held-out split.
_HELD_OUT_FROM = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a dataset is made from.

    Attributes:
      path: the prepared data set; "" is WORKDIR/dataset.
      source: "worlds" renders clips, "folder" takes files.
      folder: the folder, local or `gs://`, searched with all below it; its `captions.jsonl`, where there is one, has
        lines `{"file": path in the folder, "caption": text}`.
      worlds: the worlds of the train split.
      held_out_count: clips of the worlds' held-out split.
      held_out_share: share of a folder's clips that are held out.
      shards: files that the train split is cut into.
      workers: processes.
    """

    path: str = ""
    source: Literal["worlds", "folder"] = "worlds"
    folder: str = ""
    worlds: WorldsConfig = dataclasses.field(default_factory=WorldsConfig)
    held_out_count: int = 256
    held_out_share: float = 0.02
    shards: int = 16
    workers: int = 2

    def __post_init__(self):
        if self.source == "folder" and not self.folder:
            raise UserError("data.folder is '', expected a folder of media files: set --config.data.folder=DIR")
        if not 0 <= self.held_out_share < 1:
            raise UserError(
                f"data.held_out_share is {self.held_out_share}, expected a share from 0 to below 1, e.g. 0.02"
            )
        for name in ("held_out_count", "shards", "workers"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}, expected 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a dataset holds: clips and bytes by split, what was left out by reason, commonest sizes, durations
    (seconds)."""

    directory: str
    kept: dict[str, int]
    bytes: dict[str, int]
    rejected: dict[str, int]
    sizes: dict[str, int]
    durations: dict[str, float]
    seconds: float

    def table(self) -> rich.table.Table:
        """Returns the summary as a table to print."""
        table = rich.table.Table("what", "number", title=f"dataset {self.directory}", title_justify="left")
        for split, count in self.kept.items():
            table.add_row(f"clips, {split}", f"{count:,} ({self.bytes[split] / 1e6:,.1f} MB)")
        for reason, count in self.rejected.items():
            table.add_row(f"left out: {reason}", f"{count:,}")
        for size, count in self.sizes.items():
            table.add_row(f"size {size}", f"{count:,}")
        for name, seconds in self.durations.items():
            table.add_row(f"duration, {name}", f"{seconds:,.2f} s")
        table.add_row("time taken", f"{self.seconds:,.1f} s")
        return table


def prepare(config: DataConfig, output: epath.PathLike, progress: Progress | None = None) -> Summary:
    """Writes the dataset of `config` to the directory `output`, or what is missing of it.

    Raises:
      UserError: where nothing usable is found, or `output` holds a dataset that was made from something else.
    """
    began, output = time.monotonic(), epath.Path(output)
    said = to_dict(config)
    for machine_only in ("workers", "shards"):  # neither changes what a dataset is
        del said[machine_only]
    if config.source == "worlds":
        splits = _worlds_splits(config)
        said = {key: said[key] for key in ("source", "worlds", "held_out_count")}
        rejects = []
    else:
        inputs = folders.find(config.folder, besides=output)
        rows = folders.check_all(inputs, output, config.workers, progress)
        splits, rejects = _folder_splits(config, inputs, rows)
        said = {key: said[key] for key in ("source", "held_out_share")} | {"contents": inputs.fingerprint}
    if not shards.is_complete(output):
        shards.begin(output, said, splits)  # before anything that a refusal should leave alone
        folders.write_rejects(output, rejects)
    written = shards.write_shards(
        output,
        name=dataset.NAME,
        features=dataset.features(),
        splits=splits,
        metadata=said,
        index=dataset.INDEX,
        description="Video clips and stills as encoded files, with captions.",
        workers=config.workers,
        progress=(lambda done, total, records: progress("write", done, total)) if progress else None,
    )
    return _summary(output, written, rejects, time.monotonic() - began)


def _worlds_splits(config: DataConfig) -> dict[str, list[shards.ShardThunk]]:
    held_out = dataclasses.replace(config.worlds, split="held_out", count=config.held_out_count)
    return {
        worlds.split: [_WorldsShard(worlds, start, stop) for start, stop in _cut(worlds.count, config.shards)]
        for worlds in (dataclasses.replace(config.worlds, split="train"), held_out)
    }


@dataclasses.dataclass(frozen=True)
class _WorldsShard:
    config: WorldsConfig
    start: int
    stop: int

    def __call__(self) -> Iterator[dict[str, Any]]:
        source = WorldsSource(self.config)
        for i in range(self.start, self.stop):
            clip = source[i]
            frames, still = clip["frames"], len(clip["frames"]) == 1
            yield {
                "key": clip["key"],
                "format": "png" if still else "mp4",
                "media": media.encode_image(frames[0]) if still else media.encode_video(frames, clip["fps"]),
                "height": frames.shape[1],
                "width": frames.shape[2],
                "frames": len(frames),
                "fps": clip["fps"],
                "captions": {kind: clip["captions"].get(kind, "") for kind in ("original", "descriptive")},
                "source": f"videodit worlds, seed {self.config.seed}",
                "state": json.dumps(clip["state"], sort_keys=True),
            }


def _folder_splits(config: DataConfig, inputs: folders.Inputs, rows: Sequence[folders.Row]):
    """Returns (splits, rejects)."""
    kept = [row for row in rows if row["reason"] is None]
    rejects = inputs.rejects + [
        {"file": row["file"], "reason": row["reason"]} for row in rows if row["reason"] is not None
    ]
    if not kept:
        found = (
            f"{len(rows)} files, none usable; the first is {rows[0]['file']!r}: {rows[0]['reason']}"
            if rows
            else "no files"
        )
        raise UserError(
            f"data.folder {config.folder!r} holds {found}; expected videos or images, e.g. .mp4, .webm, .png, .jpg"
        )
    held_out = _held_out([row["file"] for row in kept], config.held_out_share)
    by_split = {
        "train": [row for row in kept if row["file"] not in held_out],
        "held_out": [row for row in kept if row["file"] in held_out],
    }
    splits = {
        split: [
            _FolderShard(
                config.folder,
                tuple((row["file"], tuple(row["record"].items())) for row in chosen[start:stop]),
                tuple(inputs.captions.get(row["file"], "") for row in chosen[start:stop]),
            )
            for start, stop in _cut(len(chosen), config.shards)
        ]
        for split, chosen in by_split.items()
    }
    return splits, rejects


@dataclasses.dataclass(frozen=True)
class _FolderShard:
    folder: str
    files: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    captions: tuple[str, ...]

    def __call__(self) -> Iterator[dict[str, Any]]:
        for (file, record), caption in zip(self.files, self.captions):
            yield {
                "key": file,
                "media": (epath.Path(self.folder) / file).read_bytes(),
                **dict(record),
                "source": file,
                "state": "",
                "captions": {"original": caption, "descriptive": ""},
            }


def _held_out(keys: Sequence[str], share: float) -> set[str]:
    """Picks by a hash of the key alone, so that a clip stays on its side however the folder grows."""
    draw = {key: int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64 for key in keys}
    chosen = {key for key in keys if draw[key] < share}
    if not chosen and share > 0 and len(keys) >= _HELD_OUT_FROM:
        chosen = {min(keys, key=draw.__getitem__)}
    return chosen


def _cut(count: int, parts: int) -> list[tuple[int, int]]:
    """Cuts range(count) into at most `parts` (start, stop) of nearly equal length; one empty part where count is 0."""
    parts = max(1, min(parts, count))
    edges = [count * part // parts for part in range(parts + 1)]
    return list(zip(edges, edges[1:]))


def _summary(
    output: epath.Path, written: shards.ShardSummary, rejects: list[dict[str, str]], seconds: float
) -> Summary:
    columns = [shards.read_index(output, split) for split in written.records]
    frames, heights, widths, fps = (
        np.concatenate([each[name] for each in columns]) for name in ("frames", "height", "width", "fps")
    )
    counts = Counter(f"{int(w)}x{int(h)}" for h, w in zip(heights, widths))
    sizes = dict(counts.most_common(6))
    if len(counts) > len(sizes):
        sizes["other"] = sum(counts.values()) - sum(sizes.values())
    moving = np.sort((frames / fps)[frames > 1])
    durations = (
        {"shortest": moving[0], "median": moving[len(moving) // 2], "longest": moving[-1], "all": moving.sum()}
        if len(moving)
        else {}
    )
    reasons = Counter(re.sub(r"\d+(\.\d+)?", "N", each["reason"]) for each in rejects)
    return Summary(
        directory=str(output),
        kept=written.records,
        bytes=written.bytes,
        rejected=dict(reasons.most_common()),
        sizes=sizes,
        durations={name: float(value) for name, value in durations.items()},
        seconds=seconds,
    )

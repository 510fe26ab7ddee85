"""Prepares a dataset of clips from the built-in worlds or from media files.

Everything that goes in comes out as records or as a line of `rejects.jsonl` with the reason. A run that was killed goes on where it was:
examined inputs stay examined, finished shards stay finished, and the dataset ends with the same bytes. Run again after inputs were added,
it examines and adds what is new, in new shards; records that are there are never changed. So an input that has changed since, or whose
captions have, is a line of `rejects.jsonl`, and the clips of one that is gone stay.

Which clip goes to which shard depends on the inputs alone, and not on who writes them: processes of this machine or, with `runner`,
Apache Beam on any of its runners.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import json
import time
from typing import Any, Literal

from etils import epath

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import choosing, dataset, examining, media, shards
from videodit.data import inputs as inputs_lib
from videodit.data.choosing import Clip
from videodit.data.curate import CurateConfig, cut
from videodit.data.result import Summary, summarise
from videodit.data.runners import Local, Runner
from videodit.data.shard import LeftOut
from videodit.data.worlds import WorldsConfig, WorldsSource

Progress = Callable[[str, int, int], None]  # (stage, done, total); the stages are "examine" (inputs) and "write" (shards)

REJECTS = "rejects.jsonl"
# This many usable inputs give at least one to the held-out split.
_HELD_OUT_FROM = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a dataset is made from.

    Attributes:
      path: the prepared data set; "" is WORKDIR/dataset.
      source: "worlds" renders clips, "files" takes media files.
      inputs: a folder or `gs://` prefix with all below it, a glob, a list of paths (.txt), a table (.jsonl, .csv, .parquet), or WebDataset
        tars (.tar, or a folder, glob or list of them). Captions come from a table's columns `caption` or `original` and `descriptive`,
        from the .txt and .json members of a tar's samples, and from a folder's `captions.jsonl`, which is such a table.
      worlds: the worlds of the train split.
      curate: how clips are found in files and which are kept.
      held_out_count: clips of the worlds' held-out split.
      held_out_share: share of inputs whose clips are held out.
      shards: files that each split of the worlds is cut into.
      shard_mb: megabytes (10^6 bytes) of inputs that a shard of clips from files holds, about.
      workers: processes, where no other runner is asked for.
      input_seconds: an input whose examination takes longer is given up and listed as a reject.
    """

    path: str = ""
    source: Literal["worlds", "files"] = "worlds"
    inputs: str = ""
    worlds: WorldsConfig = dataclasses.field(default_factory=WorldsConfig)
    curate: CurateConfig = dataclasses.field(default_factory=CurateConfig)
    held_out_count: int = 256
    held_out_share: float = 0.02
    shards: int = 16
    shard_mb: int = 64
    workers: int = 2
    input_seconds: int = 3600

    def __post_init__(self):
        if self.source == "files" and not self.inputs:
            raise UserError("data.inputs is '', expected where the media files are: set --config.data.inputs=PLACE")
        if not 0 <= self.held_out_share < 1:
            raise UserError(f"data.held_out_share is {self.held_out_share}, expected a share from 0 to below 1, e.g. 0.02")
        for name in ("held_out_count", "shards", "shard_mb", "workers", "input_seconds"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}, expected 1 or more")


def prepare(config: DataConfig, output: epath.PathLike, progress: Progress | None = None, runner: Runner | None = None) -> Summary:
    """Writes the dataset of `config` to the directory `output`, or what is missing of it.

    `runner` executes the work; by default `config.workers` processes do.

    Raises:
      UserError: where nothing usable is found, or `output` holds a dataset that was made with other settings.
    """
    began, output, runner = time.monotonic(), epath.Path(output), runner or Local(config.workers)
    before = sum(sum(lengths) for lengths in shards.written(output).values())
    make = _from_worlds if config.source == "worlds" else _from_files
    written, found = make(config, output, runner, progress)
    return summarise(output, written, _read_rejects(output), before=before, **found, seconds=time.monotonic() - began)


def _write(output: epath.Path, said: dict[str, Any], splits, rejects: Sequence[choosing.Reject], runner, progress, grows: bool):
    def finish(written: shards.ShardSummary) -> None:
        left = [{"file": key, "reason": reason} for key, reason in written.left_out]
        lines = sorted([*rejects, *left], key=lambda each: (each["file"], each["reason"]))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        if not (output / REJECTS).exists() or (output / REJECTS).read_text() != text:
            write_atomically(output / REJECTS, text)

    return shards.write_shards(
        output,
        name=dataset.NAME,
        features=dataset.features(),
        splits=splits,
        metadata=said,
        index=dataset.INDEX,
        description="Video clips and stills as encoded files, with captions.",
        grows=grows,
        runner=runner,
        progress=(lambda done, total, records: progress("write", done, total)) if progress else None,
        finish=finish,
    )


def _read_rejects(output: epath.Path) -> list[choosing.Reject]:
    return [json.loads(line) for line in (output / REJECTS).read_text().splitlines()]


def _from_worlds(config: DataConfig, output: epath.Path, runner: Runner, progress: Progress | None):
    said = {key: to_dict(config)[key] for key in ("source", "worlds", "held_out_count")}
    held_out = dataclasses.replace(config.worlds, split="held_out", count=config.held_out_count)
    splits = {
        worlds.split: [_WorldsShard(worlds, start, stop) for start, stop in _cut_evenly(worlds.count, config.shards)]
        for worlds in (dataclasses.replace(config.worlds, split="train"), held_out)
    }
    return _write(output, said, splits, [], runner, progress, grows=False), {"gone": 0, "seconds_in": None}


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


def _from_files(config: DataConfig, output: epath.Path, runner: Runner, progress: Progress | None):
    said = {key: to_dict(config)[key] for key in ("source", "held_out_share", "curate")}
    shards.check_origin(output, said)
    found = inputs_lib.find(config.inputs, besides=output)
    note = (lambda done, total: progress("examine", done, total)) if progress else None
    rows = examining.examine_all(found.files, output, config.curate, runner, note, config.input_seconds)
    additions = shards.read_about(output)
    held = [(each["addition"], clip) for each in additions for clip in choosing.said_from_json(each["clips"])]
    held = [clip for _, clip in sorted(held, key=lambda each: (each[0], each[1].name, each[1].place))]
    choice = choosing.choose(found.files, rows, held, config.curate.near_duplicate_bits)
    rejects = found.rejects + choice.rejects
    if not held and not choice.new:
        raise UserError(_nothing_usable(config.inputs, len(found.files), rejects))
    addition = 1 + max((each["addition"] for each in additions), default=0)
    held_out = _held_out(config.held_out_share, choice.new, {clip.name for clip in held}, shards.written(output))
    splits = _new_shards(choice.new, held_out, addition, config.shard_mb * 1e6, empty=not additions)
    written = _write(output, said, splits, rejects, runner, progress, grows=True)
    examinations = (row["examination"] for row in rows.values() if row["reason"] is None)
    return written, {"gone": choice.gone, "seconds_in": sum(each["info"]["duration"] for each in examinations)}


def _nothing_usable(inputs: str, files: int, rejects: Sequence[choosing.Reject]) -> str:
    found = f"{files} files, none usable" if files else "no files"
    first = f"; the first is {rejects[0]['file']!r}: {rejects[0]['reason']}" if rejects else ""
    return f"data.inputs {inputs!r} holds {found}{first}; expected videos or images, e.g. .mp4, .webm, .png, .jpg"


def _held_out(share: float, clips: Sequence[Clip], before: set[str], written: dict[str, list[int]]) -> set[str]:
    """Returns the inputs of new clips that are held out, given the inputs that the dataset was made from `before`."""
    names = {clip.source.name for clip in clips}
    lacks = share > 0 and not sum(written.get("held_out", ())) and len(names | before) >= _HELD_OUT_FROM
    return choosing.held_out(sorted(names), share, at_least_one=lacks)


def _new_shards(clips: Sequence[Clip], held_out: set[str], addition: int, limit: float, empty: bool):
    """Returns {split: shards} of new clips. A new dataset has a shard in each split, if an `empty` one."""
    splits = {"train": [], "held_out": []}
    for clip in clips:
        splits["held_out" if clip.source.name in held_out else "train"].append(clip)
    return {
        split: [_FilesShard(addition, tuple(group)) for group in _cut_by_bytes(chosen, limit)]
        or ([_FilesShard(addition, ())] if empty else [])
        for split, chosen in splits.items()
    }


@dataclasses.dataclass(frozen=True)
class _FilesShard:
    addition: int  # the how manieth to the dataset
    clips: tuple[Clip, ...]

    @property
    def about(self) -> dict[str, Any]:
        return {"addition": self.addition, "clips": choosing.said_to_json([clip.said for clip in self.clips])}

    def __call__(self) -> Iterator[dict[str, Any]]:
        for one, clips in itertools.groupby(self.clips, key=lambda clip: clip.source):
            with one.source() as source:
                clips = list(clips)
                if inputs_lib.digest(source) != clips[0].sha256:
                    raise UserError(f"input {one.name!r} has changed while the dataset was being written: run prepare again")
                yield from (_record(clip, source) for clip in clips)


def _record(clip: Clip, source: media.Source) -> dict[str, Any] | LeftOut:
    try:
        content, fields = cut(source, clip.examination.info, clip.candidate)
    except media.MediaError as error:
        return LeftOut(clip.key, f"cannot be cut out: {error}")
    captions = {kind: clip.source.captions.get(kind, "") for kind in ("original", "descriptive")}
    return {"key": clip.key, "media": content, **fields, "captions": captions, "source": clip.source.name, "state": ""}


def _cut_by_bytes(clips: Sequence[Clip], limit: float) -> Iterator[list[Clip]]:
    """Cuts clips into groups of at most `limit` bytes of their inputs, or of one clip."""
    group, size = [], 0.0
    for clip in clips:
        share = clip.candidate.frames / sum(each.frames for each in clip.examination.candidates)
        if group and size + clip.source.bytes * share > limit:
            yield group
            group, size = [], 0.0
        group.append(clip)
        size += clip.source.bytes * share
    if group:
        yield group


def _cut_evenly(count: int, parts: int) -> list[tuple[int, int]]:
    """Cuts range(count) into at most `parts` (start, stop) of nearly equal length; one empty part where count is 0."""
    parts = max(1, min(parts, count))
    edges = [count * part // parts for part in range(parts + 1)]
    return list(zip(edges, edges[1:]))

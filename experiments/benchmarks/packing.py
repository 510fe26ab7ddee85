#!/usr/bin/env python3
"""How much of a data set reaches the model, and how full packed rows are, from sizes alone: nothing is decoded or trained.

    python experiments/benchmarks/packing.py --clips DIR [--worlds 2048] [--json]

DIR holds media files and `captions.jsonl`; to them come worlds of mixed sizes and durations. Two tables:

1. Source pixels and frames that reach the model, and padding, at the same token budget a clip: buckets in the style of Open-Sora 2.0
   (the table of its second stage: 256 and 768 pixels, 1 to 129 frames, its batch sizes; clips under 2 seconds or 16 frames dropped;
   aspect ratios 2.39, 2, 16:9, 1.85, 3:2, 4:3, 1 and their transposes), square crops, and this project's size policy.
2. Real tokens in packed rows: grain's first-fit and best-fit packers and this project's order, on the same samples in the same order, at
   several row lengths, that of experiments/local.py among them.
"""

import argparse
import dataclasses
import json
import math
from pathlib import Path
import re

import grain
import numpy as np

from videodit.core.config import load
from videodit.data import media
from videodit.data.curriculum import MixtureConfig
from videodit.data.latents import KINDS
from videodit.data.order import PackingConfig, RowOrder, Sizes, TextSizes
from videodit.data.sizes import SizePolicy, fit, resampled_frames, tokens, windows
from videodit.data.worlds import WorldsConfig, clip_shape, describe, sample_scene
from videodit.models.text.tokenizer import Tokenizer, train_tokenizer
from videodit.training.config import read_experiment

ROOT = Path(__file__).resolve().parents[2]
MIXED = WorldsConfig(
    count=1,
    sizes=((240, 426), (426, 240), (256, 256), (360, 640), (480, 360), (480, 848), (720, 304), (720, 1280)),
    frames=(1, 25, 49, 65, 97, 145, 241),
    fps=24.0,
)
GRID = (4, 16, 16)  # pixels a token spans: 4x8x8 latents in patches of 1x2x2


@dataclasses.dataclass(frozen=True)
class Clip:
    frames: int
    height: int
    width: int
    fps: float
    captions: dict[str, str]


def real_clips(folder: Path) -> list[Clip]:
    """The media files of a folder that can be opened."""
    lines = (folder / "captions.jsonl").read_text().splitlines() if (folder / "captions.jsonl").exists() else []
    captions = {line["file"]: line["caption"] for line in map(json.loads, lines)}
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "awkward" not in path.parts):
        try:
            info = media.probe(path)
        except media.MediaError:
            continue
        caption = captions.get(str(path.relative_to(folder)), "")
        found.append(Clip(max(1, info.frames), info.height, info.width, info.fps or 1.0, {"original": caption}))
    return found


def world_clips(config: WorldsConfig) -> list[Clip]:
    """The sizes, durations and captions of worlds; they are not rendered."""
    found = []
    for i in range(config.count):
        frames, height, width = clip_shape(config, i)
        found.append(Clip(frames, height, width, config.fps, describe(sample_scene(config, i), frames=frames, fps=config.fps)))
    return found


# -- what reaches the model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Used:
    """What is taken of a clip: (frames, height, width) of each part, the share of the picture inside the crop, padded tokens."""

    parts: tuple[tuple[int, int, int], ...]
    picture: float
    padded: int = 0


def ours(clip: Clip, policy: SizePolicy) -> Used:
    """The windows that cover the clip, whole pictures scaled to the budget."""
    size = fit(clip.frames, clip.height, clip.width, clip.fps, policy)
    cut = windows(clip.frames, clip.fps, policy, max_frames=size.frames)
    return Used(parts=tuple((count, size.height, size.width) for _, count in cut), picture=_inside(clip, size.width / size.height))


ASPECTS = tuple(sorted({ratio for wide in (2.39, 2.0, 16 / 9, 1.85, 1.5, 4 / 3, 1.0) for ratio in (wide, 1 / wide)}))  # width / height
AREAS = {768: 768**2, 256: 256**2}
# Frames of a bucket, and clips of its batch at 256 and 768 pixels.
BATCHES = [(1, 130, 38), (33, 14, 6), (65, 10, 4), (97, 7, 3), (129, 6, 2)]


def bucket_of(clip: Clip, policy: SizePolicy) -> tuple[int, int, float] | None:
    """(side, frames, aspect ratio) of the bucket in Open-Sora's style, None where the clip is dropped."""
    frames = resampled_frames(clip.frames, clip.fps, policy)
    if clip.frames > 1 and (frames < 16 or frames / policy.fps < 2):
        return None
    side = next((side for side, area in AREAS.items() if clip.height * clip.width >= 0.8 * area), None)
    if side is None:
        return None
    return side, min(129, 1 + (frames - 1) // 4 * 4), min(ASPECTS, key=lambda ratio: abs(ratio - clip.width / clip.height))


def bucketed(clip: Clip, policy: SizePolicy) -> Used | None:
    bucket = bucket_of(clip, policy)
    if bucket is None:
        return None
    side, frames, ratio = bucket
    height = max(16, round(math.sqrt(AREAS[side] / ratio) / 16) * 16)
    width = max(16, round(math.sqrt(AREAS[side] * ratio) / 16) * 16)
    return Used(parts=((frames, height, width),), picture=_inside(clip, width / height))


def squares(clip: Clip, policy: SizePolicy) -> Used:
    """The middle square at 768 pixels, 129 frames from the start; a shorter video is padded to them."""
    side, frames = 768, min(policy.max_frames, resampled_frames(clip.frames, clip.fps, policy))
    wanted = 1 if clip.frames == 1 else policy.max_frames
    padded = tokens((wanted, side, side), GRID) - tokens((1 + (frames - 1) // 4 * 4, side, side), GRID)
    return Used(parts=((frames, side, side),), picture=_inside(clip, 1.0), padded=padded)


def _inside(clip: Clip, ratio: float) -> float:
    own = clip.width / clip.height
    return min(own / ratio, ratio / own)


def reaches(clips: list[Clip], use, policy: SizePolicy) -> dict[str, float]:
    """Shares of clips, picture area, frames and source pixels (area times frames) that reach the model, and of tokens that are padding."""
    native_frames = native_pixels = frames = pixels = real = padded = 0.0
    picture, kept = [], 0
    for clip in clips:
        there = resampled_frames(clip.frames, clip.fps, policy)
        native_frames += there
        native_pixels += there * clip.height * clip.width
        used = use(clip, policy)
        if used is None:
            continue
        kept += 1
        picture.append(used.picture)
        padded += used.padded
        seen = min(there, sum(count for count, _, _ in used.parts))  # parts may share a few frames
        frames += seen
        # A picture that is scaled up holds no more than it held.
        pixels += seen * min(used.parts[0][1] * used.parts[0][2], used.picture * clip.height * clip.width)
        for count, height, width in used.parts:
            real += tokens((1 + (count - 1) // 4 * 4, height, width), GRID)
    return {
        "clips": kept / len(clips),
        "picture": float(np.mean(picture)),
        "frames": frames / native_frames,
        "pixels": pixels / native_pixels,
        "padding": padded / (padded + real),
    }


def left_in_unfilled_batches(clips: list[Clip], policy: SizePolicy) -> float:
    """The share of clips that an epoch drops because their bucket's last batch is not full."""
    members: dict[tuple, int] = {}
    for bucket in filter(None, (bucket_of(clip, policy) for clip in clips)):
        members[bucket] = members.get(bucket, 0) + 1
    batch = lambda side, frames: next(row[1 if side == 256 else 2] for row in BATCHES if frames <= row[0])
    return sum(count % batch(side, frames) for (side, frames, _), count in members.items()) / len(clips)


# -- how full rows are


def sizes_of(clips: list[Clip], policy: SizePolicy, tokenizer: Tokenizer) -> Sizes:
    """Every window of every clip as planning knows it."""
    patches, stills, text = [], [], {kind: [] for kind in KINDS}
    for clip in clips:
        size = fit(clip.frames, clip.height, clip.width, clip.fps, policy)
        words = {kind: clip.captions.get(kind, "") for kind in KINDS}
        words = {kind: len(tokenizer.encode(caption, 2**31 - 1)) if caption else 0 for kind, caption in words.items()}
        for _, count in windows(clip.frames, clip.fps, policy, max_frames=size.frames):
            patches.append(tokens((count, size.height, size.width), policy.grid))
            stills.append(count == 1)
            for kind in KINDS:
                text[kind].append(words[kind])
    text = {kind: np.array(counts)[:, None] for kind, counts in text.items()}
    return Sizes(name="latents", patches=np.array(patches), stills=np.array(stills), text=text)


def fullness(source: Sizes, packing: PackingConfig, steps: int) -> dict[str, float]:
    """Shares of real tokens in rows, of this project's order and of grain's packers on the samples of its first stream."""
    text = TextSizes(empty=(1,), limits=(packing.max_text_tokens,))
    order = RowOrder([source], MixtureConfig(), packing, text=text, seed=0)
    iterator = iter(order)
    rows = [row for _ in range(steps) for row in next(iterator).rows]
    found = {"ours": sum(each.tokens for row in rows for each in row) / (len(rows) * packing.length)}
    samples = grain.MapDataset.range(10**9).map(lambda i: {"tokens": np.zeros(order.samples.sample(0, i).tokens, np.int8)})
    for name, packer in (
        ("grain_first_fit", grain.experimental.FirstFitPackIterDataset),
        ("grain_best_fit", grain.experimental.BestFitPackIterDataset),
    ):
        source_iterator = samples.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        packed = iter(packer(source_iterator, length_struct={"tokens": packing.length}, num_packing_bins=packing.bins, shuffle_bins=False))
        count = max(1, len(rows) // packing.bins) * packing.bins
        found[name] = sum(int((next(packed)["tokens_segment_ids"] > 0).sum()) for _ in range(count)) / (count * packing.length)
    return found


def measure(clips: list[Clip], worlds: int) -> dict:
    """Both tables as JSON values."""
    mixed = clips + world_clips(dataclasses.replace(MIXED, count=worlds))
    budget = SizePolicy(fps=24.0, max_tokens=tokens((129, 768, 768), GRID), max_frames=129, grid=GRID, min_side=256)
    table = {"open_sora_buckets": bucketed, "square_crops": squares, "ours": ours}
    small = read_experiment(load(f"{ROOT / 'experiments/local.py'}:dit"))
    local = clips + world_clips(dataclasses.replace(small.data.worlds, count=worlds))
    middle = SizePolicy(fps=12.0, max_tokens=4096, max_frames=65, grid=GRID, min_side=128)
    shapes = {
        "experiments/local.py": (local[len(clips) :], small.latents.policy, small.packing),
        "experiments/local.py with the real clips": (local, small.latents.policy, small.packing),
        "its sizes, default rows": (local, small.latents.policy, PackingConfig()),
        "8k rows": (mixed, middle, PackingConfig(length=8192, rows=16, bins=128, max_text_tokens=128)),
        "16k rows": (mixed, middle, PackingConfig(length=16384, rows=16, bins=128, max_text_tokens=128)),
        "80k rows": (mixed, budget, PackingConfig(length=81920, rows=16, bins=128, max_text_tokens=256)),
    }
    tokenizer = Tokenizer(train_tokenizer([caption for clip in mixed + local for caption in clip.captions.values()], 2048))
    rows = {}
    for name, (found, policy, packing) in shapes.items():
        source = sizes_of(found, policy, tokenizer)
        shape = {"length": packing.length, "rows": packing.rows, "bins": packing.bins, "samples": len(source.patches)}
        rows[name] = shape | {"longest": int(source.patches.max())} | fullness(source, packing, 64)
    return {
        "clips": len(mixed),
        "real": len(clips),
        "reaches": {name: reaches(mixed, use, budget) for name, use in table.items()},
        "open_sora_clips_in_unfilled_batches": left_in_unfilled_batches(mixed, budget),
        "rows": rows,
    }


def table(found: dict) -> str:
    """The measurement for a person, in Markdown."""
    percent = lambda value: f"{100 * value:.1f} %"
    lines = [
        f"{found['clips']:,} clips: {found['real']} real ones, the rest worlds.",
        "",
        "| policy | clips used | picture inside the crop | frames | source pixels | padding |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in found["reaches"].items():
        cells = " | ".join(percent(row[key]) for key in ("clips", "picture", "frames", "pixels", "padding"))
        lines.append(f"| {re.sub('_', ' ', name)} | {cells} |")
    lines += [
        "",
        f"Under Open-Sora's buckets {percent(found['open_sora_clips_in_unfilled_batches'])} of the clips lie in an epoch's unfilled "
        "batches, which are dropped.",
        "",
        "| rows | tokens a row | rows packed together | longest clip | grain first fit | grain best fit | ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in found["rows"].items():
        shares = " | ".join(percent(row[key]) for key in ("grain_first_fit", "grain_best_fit", "ours"))
        lines.append(f"| {name} | {row['length']:,} | {row['bins']} | {row['longest']:,} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of media files")
    parser.add_argument("--worlds", type=int, default=2048, help="how many worlds are mixed in")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    found = measure(real_clips(chosen.clips), chosen.worlds)
    print(json.dumps(found) if chosen.json else table(found))


if __name__ == "__main__":
    main()

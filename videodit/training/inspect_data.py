"""What a config's size policy makes of a data set, and what one record holds: tables, and pictures beside them."""

import json
import os
from typing import Any

from etils import epath
import numpy as np

from videodit.core.config import nearest, to_dict
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media, size_table
from videodit.data.curriculum import MAIN, MixtureConfig
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.order import RowOrder, Sizes, TextSizes
from videodit.data.pipeline import VAEBatches, Window, all_windows
from videodit.data.sizes import tokens
from videodit.evaluation import pictures
from videodit.training import encode
from videodit.training.config import ExperimentConfig

_STRIPS, _FRAMES, _SIDE = 6, 4, 256  # of a record's contact sheet: strips, frames a strip, pixels of the longer side


def inspect_sizes(config: ExperimentConfig, dataset: ClipDataset, output: epath.PathLike | None) -> dict[str, Any]:
    """Returns what the size policies of a config make of a data set: of `latents.policy`, the transformer's, a row for each native size,
    how full packed rows can be, and the shapes that the VAE's training and encoding compile. Writes their picture to `output`, if given.

    Each caption counts as `packing.max_text_tokens`: they are counted when they are encoded.
    """
    rows = size_table.size_rows(dataset.sizes, dataset.fps, config.latents.policy)
    if not rows:
        raise UserError(f"{os.fspath(dataset.directory)!r} holds no clip in its split {dataset.split!r}: nothing to draw")
    if output is not None:
        write_atomically(output, size_table.picture(rows))
    encoding = all_windows(dataset, config.latents.policy)
    shapes = [VAEBatches(dataset, stage, config.train.seed).buckets for stage in config.vae_training.stages]
    return {
        "kind": "sizes",
        "path": os.fspath(dataset.directory),
        "picture": os.fspath(output) if output else None,
        "sizes": size_table.to_json(rows),
        "windows": len(encoding),
        "real_token_share": _fullness(config, encoding),
        "vae_training_shapes": [list(bucket) for bucket in dict.fromkeys(sum(shapes, []))],
        "encode_shapes": len(encode.groups(encode.in_few_sizes(encoding, config.latents), config.vae.stride[0])),
        "picture_kept": min(row.picture_kept for row in rows),
        "curriculum": to_dict(config.mixture)["curriculum"],
        "lines": size_table.to_lines(rows),
    }


def _fullness(config: ExperimentConfig, windows: list[Window], steps: int = 64) -> float | None:
    """The share of real tokens in the rows of the first steps; None where a row cannot hold the longest sample."""
    text = np.full((len(windows), 1), config.packing.max_text_tokens)
    source = Sizes(
        name=MAIN,
        patches=np.array([tokens(window.size, config.latents.policy.grid) for window in windows]),
        stills=np.array([window.frames == 1 for window in windows]),
        text={kind: text for kind in config.packing.caption_odds},
    )
    if source.patches.max() + config.packing.max_text_tokens > config.packing.length:
        return None
    sizes = TextSizes(empty=(1,), limits=(config.packing.max_text_tokens,))
    rows = iter(RowOrder([source], MixtureConfig(), config.packing, text=sizes, seed=config.train.seed))
    filled = [sum(sample.tokens for sample in row) for _ in range(steps) for row in next(rows).rows]
    return sum(filled) / (len(filled) * config.packing.length)


def inspect_record(dataset: ClipDataset, record: str, output: epath.PathLike | None = None) -> dict[str, Any]:
    """Returns a record's features, without its bytes, and writes up to 24 frames, evenly spaced over the clip, to `output` as a PNG,
    by default `record-NUMBER.png` beside the dataset.

    `record` is a key or a number. Raises UserError where there is no such record.
    """
    number = dataset.keys.index(record) if record in dataset.keys else int(record) if record.isdigit() else -1
    if not 0 <= number < len(dataset):
        raise UserError(f"--record is {record!r}, expected a number below {len(dataset)} or a key{nearest(record, dataset.keys[:1000])}")
    found = dataset[number]
    smaller = min(1.0, _SIDE / max(found["height"], found["width"]))
    size = tuple(max(1, round(found[side] * smaller)) for side in ("height", "width"))
    rate = min(found["fps"], found["fps"] * _STRIPS * _FRAMES / found["frames"]) if found["frames"] > 1 else None
    frames = decode_record(found, fps=rate, size=size)
    parts = np.array_split(frames, max(1, min(_STRIPS, len(frames) // _FRAMES)))
    output = epath.Path(output) if output else dataset.directory.parent / f"record-{number}.png"
    write_atomically(output, media.encode_image(pictures.above([pictures.strip(part, _FRAMES) for part in parts])))
    features = {name: value for name, value in found.items() if name not in ("media", "state")}
    return {
        "kind": "record",
        "path": os.fspath(dataset.directory),
        "number": number,
        "bytes": len(found["media"]),
        "picture": os.fspath(output),
        **features,
    }


def sizes_lines(found: dict[str, Any]) -> list[str]:
    """The lines of `inspect_sizes` for a person."""
    full = found["real_token_share"]
    shapes = ", ".join(f"{frames} x {width}x{height}" for frames, height, width in found["vae_training_shapes"])
    lines = found["lines"] + [
        f"  windows        {found['windows']:,} of the clips; at least {found['picture_kept']:.1%} of each picture is seen",
        "  packed rows    " + ("too short for the longest clip: raise packing.length" if full is None else f"{full:.1%} real tokens"),
        f"  VAE training   compiles {len(found['vae_training_shapes'])} shapes: {shapes}",
        f"  encode         compiles {found['encode_shapes']} shapes",
    ]
    lines += [
        f"  from step {point['step']:<7,} " + "  ".join(f"{name} {value}" for name, value in point.items() if name != "step" and value)
        for point in found["curriculum"]
    ]
    return lines + ([f"  picture        {found['picture']}"] if found["picture"] else [])


def record_lines(found: dict[str, Any]) -> list[str]:
    """The lines of `inspect_record` for a person."""
    lines = []
    for name, value in found.items():
        if name not in ("kind", "path"):
            lines += [f"  {name:<14} {json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value}"]
    return lines

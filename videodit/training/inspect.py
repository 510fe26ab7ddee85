"""What a dataset, a workdir or a checkpoint holds: the figures behind `videodit inspect`, and their text form."""

import json
import os
from typing import Any

from etils import epath

from videodit.core import config as config_lib
from videodit.core.errors import UserError
from videodit.data import summary
from videodit.data.dataset import ClipDataset
from videodit.training import checkpoint_contents, inspect_data
from videodit.training.config import ExperimentConfig, dataset_path
from videodit.training.inspect_model import model_lines


def inspect(path: epath.PathLike) -> dict[str, Any]:
    """Returns what `path` holds as JSON values; `kind` is "dataset", "workdir" or "checkpoint".

    A workdir's `fingerprint` is the SHA-256 over its newest checkpoint's weights, by which two runs can be told equal; it and
    `step` are None before the first checkpoint.

    Raises:
      UserError: where `path` is none of these.
    """
    path = epath.Path(path)
    if not path.exists():
        raise UserError(f"{os.fspath(path)!r} does not exist; expected a dataset, a workdir or a checkpoint")
    if checkpoint_contents.is_checkpoint(path):
        return inspect_checkpoint(path)
    if (path / "config.json").exists() or (path / "checkpoints").exists():
        return inspect_workdir(path)
    if summary.is_dataset(path):
        return {"kind": "dataset", "path": os.fspath(path), **summary.summarise(path)}
    raise UserError(f"{os.fspath(path)!r} holds no dataset, workdir or checkpoint: none of dataset_info.json, config.json, state")


def inspect_sizes(config: ExperimentConfig, place: epath.Path, output: epath.PathLike | None) -> dict[str, Any]:
    """What `inspect_data.inspect_sizes` says of a dataset, or of a workdir's; its picture is `sizes.png` beside it by default."""
    directory = _dataset_at(place, config)
    return inspect_data.inspect_sizes(config, ClipDataset(directory), output or directory.parent / "sizes.png")


def inspect_record(place: epath.Path, record: str, output: epath.PathLike | None) -> dict[str, Any]:
    """What `inspect_data.inspect_record` says of a record of a dataset, or of a workdir's."""
    directory = _dataset_at(place, None)
    return inspect_data.inspect_record(ClipDataset(directory), record, output)


def _dataset_at(place: epath.Path, config: ExperimentConfig | None) -> epath.Path:
    if summary.is_dataset(place) or not place.exists():
        return place
    return dataset_path(config, place) if config else place / "dataset"


def inspect_workdir(workdir: epath.Path) -> dict[str, Any]:
    """Returns the config, the newest checkpoint's step, fingerprint, parameters and data position, and the last metrics."""
    steps = checkpoint_contents.finished_steps(workdir)
    found: dict[str, Any] = {
        "kind": "workdir",
        "path": os.fspath(workdir),
        "step": steps[-1] if steps else None,
        "fingerprint": None,
        "parameters": None,
        "data_position": None,
        "checkpoints": steps,
        "metrics": _last_metrics(workdir),
        "config": config_lib.read_config(workdir) if (workdir / "config.json").exists() else None,
    }
    if steps:
        newest = workdir / "checkpoints" / str(steps[-1])
        found["fingerprint"] = checkpoint_contents.fingerprint_weights(newest)
        found["parameters"] = _parameters(checkpoint_contents.leaves(newest))
        found["data_position"] = checkpoint_contents.data_position(newest)
    if checkpoint_contents.finished_steps(workdir / "vae"):
        vae = inspect_workdir(workdir / "vae")
        found["vae"] = {key: vae[key] for key in ("step", "fingerprint", "parameters")}
    return found


def inspect_checkpoint(checkpoint: epath.Path) -> dict[str, Any]:
    """Returns a checkpoint's step, fingerprint, parameters, data position, and each array's name, shape, dtype, bytes and sharding, ""
    where it lay whole on each device."""
    found = checkpoint_contents.leaves(checkpoint)
    return {
        "kind": "checkpoint",
        "path": os.fspath(checkpoint),
        "step": int(checkpoint.name) if checkpoint.name.isdigit() else None,
        "fingerprint": checkpoint_contents.fingerprint_weights(checkpoint),
        "parameters": _parameters(found),
        "bytes": sum(leaf.bytes for leaf in found),
        "data_position": checkpoint_contents.data_position(checkpoint),
        "arrays": [
            {"name": leaf.name, "shape": list(leaf.shape), "dtype": leaf.dtype, "bytes": leaf.bytes, "sharding": leaf.sharding}
            for leaf in found
        ],
    }


def _parameters(found: list[checkpoint_contents.Leaf]) -> int:
    return sum(leaf.size for leaf in found if leaf.name.startswith("params/"))


def _last_metrics(workdir: epath.Path) -> dict[str, Any] | None:
    path = workdir / "metrics" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:
            continue  # a kill can leave the last line half written
    return None


def to_text(found: dict[str, Any]) -> str:
    """Returns what `inspect` found as lines for a person."""
    kinds = {
        "dataset": _dataset_lines,
        "workdir": _workdir_lines,
        "checkpoint": _checkpoint_lines,
        "sizes": inspect_data.sizes_lines,
        "record": inspect_data.record_lines,
        "model": model_lines,
    }
    lines = kinds[found["kind"]](found)
    return "\n".join([f"{found['kind']} {found['path']}", *lines])


def _workdir_lines(found: dict[str, Any]) -> list[str]:
    lines = _weights_lines(found)
    lines.append(f"  checkpoints    {', '.join(map(str, found['checkpoints'])) or 'none yet'}")
    if found["metrics"]:
        lines.append("  last metrics   " + "  ".join(f"{key} {_number(value)}" for key, value in found["metrics"].items()))
    if "vae" in found:
        vae = found["vae"]
        lines.append(f"  vae            step {vae['step']}, {vae['parameters']:,} parameters, fingerprint {vae['fingerprint']}")
    lines.append("  config")
    lines += [f"    {name} = {json.dumps(value)}" for name, value in _flat(found["config"] or {})]
    return lines


def _weights_lines(found: dict[str, Any]) -> list[str]:
    if found["fingerprint"] is None:
        return ["  step           none: no checkpoint yet"]
    position = json.dumps(found["data_position"])
    return [
        f"  step           {found['step']}",
        f"  fingerprint    {found['fingerprint']}",
        f"  parameters     {found['parameters']:,}",
        f"  data position  {position if len(position) <= 200 else position[:200] + ' ...'}",
    ]


def _checkpoint_lines(found: dict[str, Any]) -> list[str]:
    lines = [*_weights_lines(found), f"  size           {_bytes(found['bytes'])}", "  state"]
    above: list[str] = []
    for array in found["arrays"]:
        *folders, name = array["name"].split("/")
        shared = 0
        while shared < min(len(folders), len(above)) and folders[shared] == above[shared]:
            shared += 1
        lines += ["  " * (depth + 2) + folders[depth] for depth in range(shared, len(folders))]
        above = folders
        shape = "x".join(map(str, array["shape"])) or "scalar"
        line = f"{name}  {array['dtype']} {shape}  {_bytes(array['bytes'])}  {array['sharding']}"
        lines.append("  " * (len(folders) + 2) + line.rstrip())
    return lines


def _dataset_lines(found: dict[str, Any]) -> list[str]:
    lines = [] if found["complete"] else ["  unfinished: run `videodit prepare` again to go on"]
    for split, figures in found["splits"].items():
        line = f"  {split:<14} {figures['clips']:,} clips"
        if "images" in figures:
            line += f", {figures['images']:,} of them images; {figures['frames'][0]} to {figures['frames'][1]} frames"
        if figures.get("clip_seconds"):
            least, most = figures["clip_seconds"]
            rates = ", ".join(f"{rate:g}" for rate in figures["fps"])
            line += f"; {least:g} to {most:g} s at {rates} fps, {figures['seconds']:,.1f} s in all"
        lines.append(line)
        sizes = [f"{each['width']}x{each['height']}: {each['clips']:,}" for each in figures.get("sizes", [])]
        if sizes:
            more = f"  and {len(sizes) - 12} more sizes" if len(sizes) > 12 else ""
            lines.append("    " + "  ".join(sizes[:12]) + more)
    for captions in found["captions"]:
        lines.append("  caption        " + " | ".join(f"{kind}: {text}" for kind, text in captions.items() if text))
    lines.append("  left out       " + ("nothing" if not found["rejects"] else f"{sum(found['rejects'].values()):,}"))
    lines += [f"    {count:>6,}  {reason}" for reason, count in found["rejects"].items()]
    return lines


def _flat(config: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    rows = []
    for key, value in config.items():
        name = f"{path}.{key}" if path else key
        rows += _flat(value, name) if isinstance(value, dict) and value else [(name, value)]
    return rows


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _bytes(count: int) -> str:
    """Returns a count of bytes in a unit a person reads, e.g. `1.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,} bytes" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError

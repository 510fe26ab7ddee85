"""Other meshes, remat policies, rows and parts of a step: which fit, and which are fastest. Arithmetic prunes them, compiling confirms."""

from collections.abc import Iterator
import dataclasses
import itertools
from typing import Any

from videodit.core.errors import UserError
from videodit.preflight.chips import GIB, Target
from videodit.preflight.compile import DoesNotFit, compile_train, topology_devices
from videodit.preflight.estimate import abstract_mesh, estimate
from videodit.preflight.hlo import collectives, read_program
from videodit.preflight.roofline import compiled_roofline
from videodit.preflight.work import train_work
from videodit.sharding.mesh import MeshConfig
from videodit.training.config import ExperimentConfig

_MOST_TENSOR, _MOST_CONTEXT = 8, 64
_CONFIRMED = 3


def search(config: ExperimentConfig, target: Target, confirm: int = _CONFIRMED) -> list[dict[str, Any]]:
    """Ways to take as many tokens a step as the config does, the fastest first: `flags` that ask for one, `step_seconds`, `mfu`,
    `peak_bytes` and `source`, "compiled" for the best `confirm` on TPUs, else "analytic". Those that do not fit are left out.

    Raises UserError where none fits.
    """
    available = target.per_device(target.chip.hbm_bytes)
    rows = [_row(each, target) for each in candidates(config, target)]
    ranked = sorted((row for row in rows if row["peak_bytes"] <= available), key=lambda row: row["step_seconds"])
    if not ranked:
        least = min(rows, key=lambda row: row["peak_bytes"])
        raise UserError(
            f"nothing of {len(rows):,} ways fits {target.topology} in {available / GIB:.0f} GiB a device, by estimate; nearest, with "
            f"{least['peak_bytes'] / GIB:.0f}: {least['flags']}"
        )
    if not target.chip.is_tpu:
        return _told(ranked)
    devices, confirmed = topology_devices(target.topology, target.slices), []
    while ranked and len(confirmed) < confirm:
        row = ranked.pop(0)
        try:
            confirmed.append(_confirmed(row, target, devices))
        except DoesNotFit:
            continue
    return _told(sorted(confirmed, key=lambda row: row["step_seconds"]) + ranked)


def _told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "config"} for row in rows]


def candidates(config: ExperimentConfig, target: Target) -> Iterator[ExperimentConfig]:
    """Configs of the same model with as many tokens a step, that a mesh of the target's devices can hold."""
    tokens, devices = config.packing.rows * config.packing.length, target.devices
    clip = config.latents.policy.max_tokens + config.packing.max_text_tokens
    lengths = sorted({config.packing.length * times // 2 for times in (1, 2, 4)})
    for tensor, context, length in itertools.product(_powers(_MOST_TENSOR), _powers(_MOST_CONTEXT), lengths):
        ways = devices // (tensor * context)
        if ways * tensor * context != devices or config.dit.heads % tensor or length % context or tokens % length:
            continue
        if length < clip and length != config.packing.length:
            continue
        rows = tokens // length
        for data in (each for each in _powers(ways) if each % target.slices == 0 and ways % each == 0):
            mesh = MeshConfig(data=data, fsdp=ways // data, tensor=tensor, context=context)
            for accumulate, remat in itertools.product(_powers(8), ("none", "named", "full")):
                if rows % (ways * accumulate):
                    continue
                yield changed(config, mesh=mesh, remat=remat, rows=rows, length=length, accumulate=accumulate)


def changed(
    config: ExperimentConfig,
    mesh: MeshConfig | None = None,
    remat: str | None = None,
    rows: int | None = None,
    length: int | None = None,
    accumulate: int | None = None,
) -> ExperimentConfig:
    """The config with other values of what a search tries; None leaves one as it is."""
    rows = rows or config.packing.rows
    bins = -(-config.packing.bins // rows) * rows
    return dataclasses.replace(
        config,
        mesh=mesh or config.mesh,
        dit=dataclasses.replace(config.dit, remat=remat or config.dit.remat),
        packing=dataclasses.replace(config.packing, rows=rows, bins=bins, length=length or config.packing.length),
        train=dataclasses.replace(config.train, accumulate=accumulate or config.train.accumulate),
    )


def flags(config: ExperimentConfig, base: ExperimentConfig | None = None) -> str:
    """The overrides that ask for a config; where it is given, as far as `base` has other values."""
    values = lambda each: {
        **{f"mesh.{axis}": getattr(each.mesh, axis) for axis in ("data", "fsdp", "tensor", "context")},
        "dit.remat": each.dit.remat,
        "packing.rows": each.packing.rows,
        "packing.length": each.packing.length,
        "packing.bins": each.packing.bins,
        "train.accumulate": each.train.accumulate,
    }
    had = values(base) if base else {}
    return " ".join(f"--config.{name}={value}" for name, value in values(config).items() if had.get(name) != value)


def advice(config: ExperimentConfig, target: Target, needed: float | None) -> list[str]:
    """The first of some changes by which a transformer's train step would fit, by estimate; `needed`: bytes that the compiled one takes, by
    which estimates are scaled."""
    available = target.per_device(target.chip.hbm_bytes)
    scale = needed / estimate(config, target).peak_bytes if needed else 1.0
    fits = lambda each, where=target: scale * estimate(each, where).peak_bytes <= available
    for each in _ways_out(config, target):
        if fits(each):
            return [f"{flags(each, config)}  (by estimate)"]
    for times in (2, 4, 8, 16, 32, 64):
        wider = dataclasses.replace(target, chips=target.chips * times)
        ways = wider.devices // (config.mesh.tensor * config.mesh.context)
        each = changed(config, mesh=_all_fsdp(config, wider), remat="full", rows=max(config.packing.rows, ways))
        if fits(each, wider):
            return [f"{wider.chips:,} {target.kind} chips with {flags(each, config)}  (by estimate)"]
    return [f"a smaller model: no mesh of up to {64 * target.chips:,} chips holds it with whole rows of {config.packing.length:,} tokens"]


def _ways_out(config: ExperimentConfig, target: Target) -> Iterator[ExperimentConfig]:
    """More and more of what saves memory: remat, parameters over all devices, a step in parts, rows over several devices, short rows."""
    wide = changed(config, remat="full")
    yield wide
    wide = changed(wide, mesh=_all_fsdp(config, target))
    mesh = abstract_mesh(wide, target.devices).shape
    ways = mesh["data"] * mesh["fsdp"]
    if wide.packing.rows % ways == 0:
        yield wide
        for parts in (2, 4, 8, 16):
            if wide.packing.rows % (parts * ways) == 0:
                yield changed(wide, accumulate=parts)
    for context in (2, 4, 8, 16, 32, 64):
        rest = target.devices // (config.mesh.tensor * context * target.slices)
        if rest and rest * config.mesh.tensor * context * target.slices == target.devices:
            split = MeshConfig(data=target.slices, fsdp=rest, tensor=config.mesh.tensor, context=context)
            if wide.packing.rows % (rest * target.slices) == 0 and wide.packing.length % context == 0:
                yield changed(wide, mesh=split)
    for shorter in (2, 4, 8):
        length = config.packing.length // shorter
        if config.latents.policy.max_tokens + config.packing.max_text_tokens <= length:
            yield changed(wide, length=length)


def _all_fsdp(config: ExperimentConfig, target: Target) -> MeshConfig:
    rest = target.devices // (config.mesh.tensor * config.mesh.context * target.slices)
    return MeshConfig(data=target.slices, fsdp=max(1, rest), tensor=config.mesh.tensor, context=config.mesh.context)


def _row(config: ExperimentConfig, target: Target) -> dict[str, Any]:
    made = estimate(config, target)
    return _figures(config, target, made.peak_bytes, made.roofline)


def _confirmed(row: dict[str, Any], target: Target, devices: list) -> dict[str, Any]:
    config = row["config"]
    made = compile_train(config, devices)
    if made.peak_bytes > target.per_device(target.chip.hbm_bytes):
        raise DoesNotFit("train", made.peak_bytes, "")
    program = read_program(made.executable.as_text())
    line = compiled_roofline(program, collectives(program, made.mesh), made.mesh, train_work(config), target)
    return _figures(config, target, made.peak_bytes, line)


def _figures(config: ExperimentConfig, target: Target, peak: float, line: Any) -> dict[str, Any]:
    work = train_work(config)
    return {
        "config": config,
        "flags": flags(config),
        "peak_bytes": peak,
        "step_seconds": line.step,
        "mfu": work.model_flops / (line.step * target.chips * target.chip.flops),
        "per_second": work.items / line.step,
        "bound": line.bound,
        "source": line.source,
    }


def _powers(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def search_lines(rows: list[dict[str, Any]], most: int = 12) -> list[str]:
    """`search` for a person: a Markdown table of the best."""
    lines = ["| step s | MFU | peak GiB | bound by | by | flags |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows[:most]:
        cells = (f"{row['step_seconds']:.3f}", f"{row['mfu']:.1%}", f"{row['peak_bytes'] / GIB:.1f}", row["bound"], row["source"])
        lines.append("| " + " | ".join((*cells, row["flags"].replace("--config.", ""))) + " |")
    return lines

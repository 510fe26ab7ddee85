"""The `preflight` verb: does a job fit the chips that it is meant for, how fast should it be there, and what does it cost?"""

from collections.abc import Sequence
import dataclasses
import time
from typing import Any

from videodit.core.errors import UserError
from videodit.preflight.chips import GIB, Target
from videodit.preflight.compile import Compiled, DoesNotFit, compile_encode, compile_sample, compile_train, topology_devices
from videodit.preflight.costs import hbm_bytes, kernel_calls
from videodit.preflight.estimate import estimate, kept_bytes
from videodit.preflight.hlo import by_axes, collectives, read_program
from videodit.preflight.roofline import Roofline, compiled_roofline
from videodit.preflight.search import advice
from videodit.preflight.work import Work, train_work
from videodit.training.config import ExperimentConfig

PROGRAMS = ("train", "encode", "sample")


def preflight(config: ExperimentConfig, target: Target, programs: Sequence[str] = PROGRAMS) -> dict[str, Any]:
    """What a config's programs take on a target, as JSON values; of a VAE the train step alone.

    `fits`; `programs`, by name: `memory` of a device in bytes by kind with its `peak`, `collectives` a step by axes and network, `kernels`
    run a step, `compile_seconds`; of the train step `work`, `roofline` (seconds), `step_seconds`, `mfu`, `per_second` (tokens, or clips)
    and, for all of `train.steps`, `planned`, `chip_hours` and `days`. Where it does not fit, `advice` says what would. GPUs get an
    estimate, without compiling, of the train step alone: `source` says which of both it is.

    Raises UserError where the mesh does not fit the target, or libtpu is missing.
    """
    began = time.perf_counter()
    found: dict[str, Any] = {
        "topology": target.topology,
        "slices": target.slices,
        "chips": target.chips,
        "hbm_bytes": target.per_device(target.chip.hbm_bytes),
        "source": "compiled" if target.chip.is_tpu else "analytic",
        "chip_sources": list(target.chip.sources),
        "programs": {},
    }
    work = train_work(config)
    if target.chip.is_tpu:
        devices = topology_devices(target.topology, target.slices)
        for name in programs if config.model == "dit" else ("train",):
            try:
                found["programs"][name] = _compiled(name, config, target, devices, work)
            except DoesNotFit as error:
                found["programs"][name] = {"fits": False, "memory": {"peak": error.needed}, "said": str(error)}
    else:
        if config.model != "dit":
            raise UserError(f"--topology is {target.topology}: a VAE is compiled, for TPUs alone; expected e.g. v5p:2x2x2")
        found["programs"]["train"] = _estimated(config, target, work)
    found["fits"] = all(program["fits"] for program in found["programs"].values())
    train = found["programs"].get("train", {"fits": True})
    if not train["fits"] and config.model == "dit":
        found["advice"] = advice(config, target, train["memory"]["peak"])
    found["seconds"] = time.perf_counter() - began
    return found


def _compiled(name: str, config: ExperimentConfig, target: Target, devices: list, work: Work) -> dict[str, Any]:
    if name == "encode":
        return _encoding(compile_encode(config, target, devices), target)
    made = (compile_train if name == "train" else compile_sample)(config, devices)
    program = read_program(made.executable.as_text())
    moved = collectives(program, made.mesh)
    kept = kept_bytes(config, dict(made.mesh.shape)) if name == "train" and config.model == "dit" else 0.0
    told = {
        "fits": made.peak_bytes <= target.per_device(target.chip.hbm_bytes),
        "memory": _memory(made, kept),
        "collectives": by_axes(moved),
        "kernels": kernel_calls(program),
        "hbm_traffic_bytes": hbm_bytes(program),
        "compile_seconds": made.seconds,
    }
    if name == "train":
        told |= _speed(config, target, work, compiled_roofline(program, moved, made.mesh, work, target))
    return told


def _encoding(made: Compiled, target: Target) -> dict[str, Any]:
    fits = made.peak_bytes <= target.per_device(target.chip.hbm_bytes)
    return {"fits": fits, "memory": _memory(made, 0.0), "collectives": [], "compile_seconds": made.seconds}


def _memory(made: Compiled, kept: float) -> dict[str, float]:
    """Bytes by kind. The peak is XLA's; `activations` are what JAX keeps for the backward pass, and `temporaries` all that is left."""
    rest = made.peak_bytes - sum(made.arguments.values())
    activations = min(kept, max(rest, 0))
    return {**made.arguments, "activations": activations, "temporaries": rest - activations, "peak": made.peak_bytes}


def _estimated(config: ExperimentConfig, target: Target, work: Work) -> dict[str, Any]:
    made = estimate(config, target)
    fits = made.peak_bytes <= target.per_device(target.chip.hbm_bytes)
    return {"fits": fits, "memory": {**made.memory, "peak": made.peak_bytes}} | _speed(config, target, work, made.roofline)


def _speed(config: ExperimentConfig, target: Target, work: Work, line: Roofline) -> dict[str, Any]:
    steps, hours = config.train.steps, line.step * config.train.steps / 3600
    return {
        "work": dataclasses.asdict(work),
        "roofline": {**dataclasses.asdict(line), "bound": line.bound},
        "step_seconds": line.step,
        "mfu": work.model_flops / (line.step * target.chips * target.chip.flops),
        "per_second": work.items / line.step,
        "planned": work.items * steps,
        "chip_hours": hours * target.chips,
        "days": hours / 24,
    }


def preflight_lines(found: dict[str, Any]) -> list[str]:
    """`preflight` for a person."""
    where = f"{found['slices']} slices of {found['topology']}" if found["slices"] > 1 else found["topology"]
    label = "compiled for it" if found["source"] == "compiled" else "ESTIMATED by the analytic model: nothing was compiled"
    lines = [f"{where}, {found['chips']:,} chips, {label}"]
    for name, program in found["programs"].items():
        lines += ["", *_program_lines(name, program, found["hbm_bytes"])]
    lines += ["", "fits" if found["fits"] else "does NOT fit"]
    lines += [f"  what would make the train step fit: {each}" for each in found.get("advice", ())]
    return lines


def _program_lines(name: str, program: dict[str, Any], available: float) -> list[str]:
    memory = dict(program["memory"])
    peak = memory.pop("peak")
    of = f"of {available / GIB:.1f} GiB a device"
    if peak is None or "roofline" not in program and "said" in program:
        return [f"{name}: does not fit: needs {'more' if peak is None else f'{peak / GIB:.1f} GiB'} {of}"]
    took = f", compiled in {program['compile_seconds']:.0f} s" if "compile_seconds" in program else ""
    lines = [f"{name}: peak {peak / GIB:.2f} {of}{took}"]
    lines.append("  " + ", ".join(f"{kind} {count / GIB:.2f}" for kind, count in memory.items() if count >= GIB / 100))
    for row in program.get("collectives", ()):
        if row["bytes_sent"] >= 1e6:
            beside = f", {row['overlapped_bytes'] / row['bytes_sent']:.0%} beside arithmetic"
            lines.append(
                f"  {row['kind']:<18} along {row['axes']:<12} {row['network']}  {row['count']:>6,} a step, "
                f"{row['bytes_sent'] / 1e9:>8.3f} GB sent by a device{beside}"
            )
    if "roofline" in program:
        lines += _speed_lines(program)
    return lines


def _speed_lines(program: dict[str, Any]) -> list[str]:
    line, work = program["roofline"], program["work"]
    networks = ", ".join(f"{name} {seconds:.3f}" for name, seconds in line["networks"].items())
    return [
        f"  FLOPs owed a step  {work['model_flops']:.4g}; done again {work['recomputed_flops']:.3g}",
        f"  seconds at peaks   matrix products {line['matrix']:.3f}, memory {line['memory']:.3f}, network {networks or '0'}",
        f"  seconds expected   arithmetic {line['compute']:.3f} ({line['attention']:.3f} of it attention), network beside it "
        f"{line['hidden']:.3f}, waited for {line['waited']:.3f}",
        f"  step {program['step_seconds']:.3f} s, MFU {program['mfu']:.1%}, {program['per_second']:,.0f} {work['unit']}/s, "
        f"bound by {line['bound']}",
        f"  planned {program['planned']:.3g} {work['unit']}: {program['chip_hours']:,.0f} chip-hours, {program['days']:.1f} days",
    ]

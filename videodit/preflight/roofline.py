"""How long a step should take: what a chip's peaks allow for matrix products, memory and each network, and which of these wait.

The rule, with every part in seconds of one step on one device:

    step = max(compute, network beside it) + network that nothing runs beside

Of a program compiled for TPUs, `compute` is XLA's own cycles for every operation (each the slower of its arithmetic and its memory) plus
attention's kernels, which XLA has no cycles for, at `ATTENTION_EFFICIENCY` of the peak. A collective that the program starts and waits for
later runs beside arithmetic; any other does not. Of an estimate with no program, `compute` is products at `PRODUCT_EFFICIENCY` plus
attention, and what is moved to and from memory by all else (`estimate.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jax.sharding import Mesh
import numpy as np

from videodit.preflight.chips import Target
from videodit.preflight.costs import cycles, hbm_bytes
from videodit.preflight.hlo import Collective, Program
from videodit.preflight.work import Work

# Shares of the peak. Of wide bfloat16 products XLA expects 0.83 on a v5p (8 B, the MLP's first). Of the kernel we have no measurement
# on a TPU; half the peak is what is published for such kernels with heads of 128 (FlashAttention-2, Dao, 2023: 0.5 to 0.73 on an A100).
PRODUCT_EFFICIENCY = 0.83
ATTENTION_EFFICIENCY = 0.5


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds of a step on one device. matrix, memory: what the peaks allow. compute: expected of all arithmetic, attention within it.
    networks: by "AXES ICI" or "AXES DCN", in all; hidden, waited: of these, beside arithmetic or not. source: "compiled" or "analytic"."""

    source: str
    matrix: float
    memory: float
    attention: float
    compute: float
    networks: dict[str, float]
    hidden: float
    waited: float

    @property
    def step(self) -> float:
        return max(self.compute, self.hidden) + self.waited

    @property
    def bound(self) -> str:
        """What the step's time is mostly made of."""
        parts = {"compute": self.compute, "network": max(0.0, self.hidden - self.compute) + self.waited}
        if parts["network"] > parts["compute"]:
            return "network"
        return "memory" if self.memory > self.matrix else "matrix products"


def attention_seconds(work: Work, target: Target) -> float:
    """Of attention's kernels, a step."""
    return work.attention_flops * work.attention_passes / (target.chips * target.chip.flops * ATTENTION_EFFICIENCY)


def compiled_roofline(program: Program, found: Sequence[Collective], mesh: Mesh, work: Work, target: Target) -> Roofline:
    """Of a program compiled for TPUs."""
    chip = target.chip
    peak = target.per_device(chip.flops)
    attention = attention_seconds(work, target)
    networks: dict[str, float] = {}
    hidden = waited = 0.0
    for each in found:
        seconds = collective_seconds(each, mesh, target)
        name = f"{'+'.join(each.axes) or 'one'} {'DCN' if each.dcn else 'ICI'}"
        networks[name] = networks.get(name, 0.0) + seconds
        hidden, waited = (hidden + seconds, waited) if each.overlapped else (hidden, waited + seconds)
    return Roofline(
        source="compiled",
        matrix=(work.product_flops + work.attention_flops * work.attention_passes) / target.devices / peak,
        memory=hbm_bytes(program) / target.per_device(chip.hbm_rate),
        attention=attention,
        compute=cycles(program) * chip.flops_per_cycle / chip.devices / peak + attention,
        networks=networks,
        hidden=hidden,
        waited=waited,
    )


def collective_seconds(each: Collective, mesh: Mesh, target: Target) -> float:
    """By its bytes and the links of a device that point along its group."""
    chip = target.chip
    if each.dcn:
        return each.sent / target.per_device(chip.dcn_rate)
    if each.kind == "collective-permute":
        return each.sent / chip.link_rate
    return each.sent / (chip.link_rate * links_of(each.group, mesh, target))


def links_of(group: Sequence[int], mesh: Mesh, target: Target) -> int:
    """How many links of a chip carry a group's bytes: along each side of the slice that the group spans two where the side is a ring, else
    one, as at the end of a line."""
    places = np.array([getattr(mesh.devices.flat[device], "coords", (0,)) for device in group])
    sides = [side for side, at in zip(target.shape, places.T) if len(set(at.tolist())) > 1]
    return max(1, sum(2 if side % target.chip.wraps == 0 else 1 for side in sides))

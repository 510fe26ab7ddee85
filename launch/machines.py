"""The machines that jobs are sent to, by the name that `--topology` gives them, and what each cloud calls them.

    v5p:8x16x16   a slice of TPUs by its chips (as `videodit preflight` takes it)
    h100:64       so many GPUs
    cpu:2         so many processors that stand for devices, in a local pod

Names and shapes are those of the Cloud TPU pages v4, v5e, v5p and v6e ("Configurations"), of GKE's "Plan TPUs" and of xpk's
system_characteristics.py.
"""

from dataclasses import dataclass
import math
import re

from videodit.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TPU:
    """One generation: dimensions of a slice, GKE's label, the software of queued resources ("" where there are none), chips of a host."""

    axes: int
    gke: str
    runtime: str = ""
    chips_per_host: int = 4


TPUS = {
    "v4": TPU(axes=3, gke="tpu-v4-podslice", runtime="tpu-ubuntu2204-base"),
    "v5e": TPU(axes=2, gke="tpu-v5-lite-podslice", runtime="v2-alpha-tpuv5-lite"),
    "v5p": TPU(axes=3, gke="tpu-v5p-slice", runtime="v2-alpha-tpuv5"),
    "v6e": TPU(axes=2, gke="tpu-v6e-slice", runtime="v2-alpha-tpuv6e"),
    "tpu7x": TPU(axes=3, gke="tpu7x"),
}
GPUS = ("a100", "h100", "h200", "b200")
GPUS_PER_HOST = 8
_EXPECTED = "expected e.g. v5e:4x4, v5p:4x4x8, v6e:16x16, tpu7x:4x4x4, h100:64 or cpu:2"

# The one shape that a number of v5p chips stands for in a name such as v5p-128.
_V5P_SHAPES = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16", "16x16x24",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one slice of a job runs on. `shape` is of chips; of GPUs and processors it is their number alone."""

    kind: str
    shape: tuple[int, ...]

    @property
    def topology(self) -> str:
        return f"{self.kind}:{self.shape_name}"

    @property
    def shape_name(self) -> str:
        return "x".join(map(str, self.shape))

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def is_tpu(self) -> bool:
        return self.kind in TPUS

    @property
    def is_gpu(self) -> bool:
        return self.kind in GPUS

    @property
    def chips_per_host(self) -> int:
        return min(self.chips, TPUS[self.kind].chips_per_host if self.is_tpu else GPUS_PER_HOST)

    @property
    def hosts(self) -> int:
        return self.chips // self.chips_per_host

    def queued_flags(self) -> list[str]:
        """What `gcloud compute tpus queued-resources create` is told about the machine.

        Raises UserError where queued resources have no such machine.
        """
        if not self.is_tpu or not TPUS[self.kind].runtime:
            raise UserError(
                f"--topology is {self.topology}, which the Cloud TPU API does not give out; expected v4, v5e, v5p or v6e, or gke"
            )
        runtime = f"--runtime-version={TPUS[self.kind].runtime}"
        if self.kind == "v4":
            return ["--type=v4", f"--topology={self.shape_name}", runtime]
        if self.kind == "v5p" and self.shape_name not in _V5P_SHAPES:
            raise UserError(
                f"--topology is {self.topology}, which has no name of its own; expected one of {', '.join(_V5P_SHAPES)}, or gke"
            )
        # v5p counts TensorCores, of which a chip has two.
        name = {"v5e": f"v5litepod-{self.chips}", "v5p": f"v5p-{2 * self.chips}", "v6e": f"v6e-{self.chips}"}[self.kind]
        return [f"--accelerator-type={name}", runtime]


def parse_topology(text: str) -> Machine:
    """Returns the machine that `text` names. Raises UserError where there is none of that name or shape."""
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", text)
    kind, shape = (match[1], tuple(map(int, match[2].split("x")))) if match else (text, ())
    axes = TPUS[kind].axes if kind in TPUS else 1
    if kind not in (*TPUS, *GPUS, "cpu") or len(shape) != axes or min(shape) < 1:
        raise UserError(f"--topology is {text!r}; {_EXPECTED}")
    machine = Machine(kind=kind, shape=shape)
    if machine.chips % machine.chips_per_host:
        raise UserError(f"--topology is {text!r}, {machine.chips} devices; expected a multiple of the {machine.chips_per_host} of a host")
    return machine

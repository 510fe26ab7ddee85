"""What a chip can do, by the name that `--topology` gives its kind: one table, each row with its sources."""

from dataclasses import dataclass
import re

from videodit.core.errors import UserError

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip. Rates are peaks, a chip.

    flops: bfloat16 FLOP/s. hbm_bytes, hbm_rate: its memory, and bytes/s to it. link_rate: bytes/s one way of one link to a neighbour; of
    GPUs of all links to the others of the host. wraps: a side of a slice whose chips are a multiple of it is a ring. dcn_rate: bytes/s one
    way to other slices, or other hosts. flops_per_cycle: of its matrix units as XLA counts cycles (of a product of 8192 x 8192 with as much
    it expects 0.7 to 0.9 of that), by which these become seconds. devices: that JAX makes of it. group: chips that links join directly,
    where these are no slice.
    """

    flops: float
    hbm_bytes: float
    hbm_rate: float
    link_rate: float
    dcn_rate: float
    sources: tuple[str, ...]
    wraps: int = 4
    flops_per_cycle: float = 0.0
    devices: int = 1
    group: int = 0

    @property
    def is_tpu(self) -> bool:
        return self.group == 0


_TPU_PAGES = "docs.cloud.google.com/tpu/docs"
_DCN = "System architecture, docs.cloud.google.com/tpu/docs/system-architecture-tpu-vm; data centre bandwidth a chip"
_IB = "NVIDIA DGX data sheet of the system: one 400 Gbit/s network port a GPU (A100: 200)"
# Both dimensions of a slice of v5e and v6e are rings where they have all 16 chips; the others' where a side has 4 or a multiple of it.
CHIPS = {
    "v4": Chip(
        flops=275e12, hbm_bytes=32 * GIB, hbm_rate=1200e9, link_rate=50e9, dcn_rate=25e9 / 8, flops_per_cycle=2**17,
        sources=(f"{_TPU_PAGES}/v4: 275 TFLOP/s, 32 GiB, 1200 GB/s, 300 GB/s over 6 links one way", _DCN),
    ),
    "v5e": Chip(
        flops=197e12, hbm_bytes=16 * GIB, hbm_rate=819e9, link_rate=50e9, dcn_rate=25e9 / 8, wraps=16, flops_per_cycle=2**17,
        sources=(f"{_TPU_PAGES}/v5e: 197 TFLOP/s, 16 GB, 819 GB/s, 400 GB/s over 4 links in both directions", _DCN),
    ),
    "v5p": Chip(
        flops=459e12, hbm_bytes=95 * GIB, hbm_rate=2765e9, link_rate=100e9, dcn_rate=50e9 / 8, flops_per_cycle=2**18,
        sources=(f"{_TPU_PAGES}/v5p: 459 TFLOP/s, 95 GB, 2765 GB/s, 1200 GB/s over 6 links in both directions", _DCN),
    ),
    "v6e": Chip(
        flops=918e12, hbm_bytes=32 * GIB, hbm_rate=1640e9, link_rate=100e9, dcn_rate=100e9 / 8, wraps=16, flops_per_cycle=2**19,
        sources=(f"{_TPU_PAGES}/v6e: 918 TFLOP/s, 32 GB, 1640 GB/s, 800 GB/s over 4 links in both directions", _DCN),
    ),
    "tpu7x": Chip(
        flops=2307e12, hbm_bytes=192e9, hbm_rate=7370e9, link_rate=100e9, dcn_rate=100e9 / 8, flops_per_cycle=2**20, devices=2,
        sources=(f"{_TPU_PAGES}/tpu7x: 2307 TFLOP/s, 192 GB, 7370 GB/s, 1200 GB/s over 6 links in both directions; two devices", _DCN),
    ),
    "a100": Chip(
        flops=312e12, hbm_bytes=80e9, hbm_rate=2039e9, link_rate=300e9, dcn_rate=25e9, group=8,
        sources=("NVIDIA A100 80GB SXM data sheet: 312 TFLOP/s dense, 2039 GB/s, NVLink 600 GB/s in both directions", _IB),
    ),
    "h100": Chip(
        flops=989e12, hbm_bytes=80e9, hbm_rate=3350e9, link_rate=450e9, dcn_rate=50e9, group=8,
        sources=("NVIDIA H100 SXM data sheet: 989 TFLOP/s dense, 3.35 TB/s, NVLink 900 GB/s in both directions", _IB),
    ),
    "h200": Chip(
        flops=989e12, hbm_bytes=141e9, hbm_rate=4800e9, link_rate=450e9, dcn_rate=50e9, group=8,
        sources=("NVIDIA H200 SXM data sheet: 989 TFLOP/s dense, 4.8 TB/s, NVLink 900 GB/s in both directions", _IB),
    ),
    "b200": Chip(
        flops=2250e12, hbm_bytes=180e9, hbm_rate=8000e9, link_rate=900e9, dcn_rate=50e9, group=8,
        sources=("NVIDIA DGX B200 data sheet: 2.25 PFLOP/s dense, 180 GB, 8 TB/s, NVLink 1.8 TB/s in both directions", _IB),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a job is planned for: `slices` slices of so many chips, or so many GPUs."""

    topology: str
    kind: str
    chips: int
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def devices(self) -> int:
        """As JAX counts them, over all slices."""
        return self.chips * self.chip.devices

    def per_device(self, of_chip: float) -> float:
        return of_chip / self.chip.devices


def parse_target(topology: str, slices: int = 1) -> Target:
    """`v5p:4x4x8` by its chips, or `h100:64` by their number. Raises UserError where there is no such kind."""
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", topology)
    kind = match[1] if match else topology
    shape = tuple(map(int, match[2].split("x"))) if match else ()
    if kind not in CHIPS or min(shape, default=0) < 1 or (not CHIPS[kind].is_tpu and len(shape) > 1):
        raise UserError(f"--topology is {topology!r}, expected KIND:SHAPE, e.g. v5p:4x4x8 or h100:64, of {', '.join(CHIPS)}")
    if slices < 1 or (slices > 1 and not CHIPS[kind].is_tpu):
        raise UserError(f"--slices is {slices}, expected 1 or more of TPUs, and 1 of GPUs")
    count = slices
    for side in shape:
        count *= side
    return Target(topology=topology, kind=kind, chips=count, shape=shape, slices=slices)

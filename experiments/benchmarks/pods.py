#!/usr/bin/env python3
"""What every run of `experiments/pods.py` takes on its pod, and the 8 B run on 16 to 2,048 chips at the same rows a chip: by `videodit
preflight`, compiled for the pods. Needs libtpu, and no TPU.

    pip install 'jax[tpu]'
    python experiments/benchmarks/pods.py [--runs image_1b 8b ...] [--chips 16 256 2048] [--json FILE]

For weak scaling parameters are split over 16 chips (`fsdp`) and rows over all: what a chip holds and sends should stay as it is.
"""

import argparse
import json
from pathlib import Path
import sys

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))

from pods import PODS  # noqa: E402  experiments/pods.py

from videodit.core.flags import load  # noqa: E402
from videodit.preflight.chips import GIB, parse_target  # noqa: E402
from videodit.preflight.report import PROGRAMS, preflight  # noqa: E402
from videodit.training.config import read_experiment  # noqa: E402

CONFIG = HERE.parents[1] / "pods.py"
SLICES = {16: "v5p:2x2x4", 64: "v5p:4x4x4", 256: "v5p:4x8x8", 512: "v5p:8x8x8", 1024: "v5p:8x8x16", 2048: "v5p:8x16x16"}
RUN_HEAD = "| run | pod | fits | peak GiB | state | kept | rest | encode, sample GiB | step s | MFU | tokens/s | days |"
CHIPS_HEAD = "| chips | mesh | peak GiB | sent a chip GB | step s | MFU | tokens/s | compile s |"


def measure(variant: str, topology: str, programs, **overrides) -> dict:
    config = read_experiment(load(f"{CONFIG}:{variant}", [f"--config.{name}={value}" for name, value in overrides.items()]))
    return preflight(config, parse_target(topology), programs) | {"variant": variant}


def run_row(found: dict) -> tuple:
    train, memory = found["programs"]["train"], found["programs"]["train"]["memory"]
    gib = lambda *kinds: f"{sum(memory.get(kind, 0) for kind in kinds) / GIB:.1f}"
    others = ", ".join(f"{found['programs'][name]['memory']['peak'] / GIB:.1f}" for name in ("encode", "sample"))
    if "step_seconds" not in train:
        return (found["variant"], found["topology"], "no", gib("peak"), "", "", "", others, "", "", "", "")
    kinds = gib("parameters", "optimizer", "average"), gib("activations"), gib("temporaries")
    speed = f"{train['step_seconds']:.2f}", f"{train['mfu']:.1%}", f"{train['per_second']:,.0f}", f"{train['days']:.1f}"
    return (found["variant"], found["topology"], "yes" if found["fits"] else "no", gib("peak"), *kinds, others, *speed)


def chips_row(chips: int, found: dict) -> tuple:
    train = found["programs"]["train"]
    sent = sum(row["bytes_sent"] for row in train["collectives"])
    speed = f"{train['step_seconds']:.2f}", f"{train['mfu']:.1%}", f"{train['per_second']:,.0f}", f"{train['compile_seconds']:.0f}"
    return (chips, f"data={chips // 16} fsdp=16", f"{train['memory']['peak'] / GIB:.2f}", f"{sent / 1e9:.1f}", *speed)


def show(*cells) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=list(PODS), choices=list(PODS))
    parser.add_argument("--chips", nargs="*", type=int, default=[16, 256, 2048], choices=list(SLICES))
    parser.add_argument("--json", help="a file for all figures, a line for each pod")
    chosen = parser.parse_args()
    figures = []
    for head, cases in ((RUN_HEAD, chosen.runs), (CHIPS_HEAD, chosen.chips)):
        if cases:
            print(f"\n{head}\n" + "| --- " * (head.count("|") - 1) + "|", flush=True)
        for case in cases:
            if head is RUN_HEAD:
                figures.append(measure(case, PODS[case].topology, PROGRAMS))
                show(*run_row(figures[-1]))
            else:
                mesh = {"mesh.data": case // 16, "mesh.fsdp": 16, "packing.rows": case, "packing.bins": case}
                figures.append(measure("8b", SLICES[case], ("train",), **mesh))
                show(*chips_row(case, figures[-1]))
    if chosen.json:
        Path(chosen.json).write_text("".join(json.dumps(each) + "\n" for each in figures))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What packed attention costs when a row holds more and shorter clips, by backend.

    python experiments/benchmarks/attention.py [--heads 2] [--width 64] [--length 32768] [--clips 1 16 64] [--repeats 2] [--json]

One row of `length` tokens cut into equal clips, forward alone and forward with backward, float32, medians of runs that take turns.
"Share" is the time over that of one clip as long as the row. Then short rows of four clips, blocks against whole rows, which says where
`make_plan` changes over. The backend for long rows is the one that this platform gets by "auto".
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from videodit.attention import make_plan, packed_attention


def cut_row(length: int, clips: int) -> jax.Array:
    return jnp.asarray(np.arange(length)[None] * clips // length + 1, jnp.int32)


def programs(backend: str, ids: jax.Array):
    """Forward, and forward with backward, of q, k and v; making the plan is part of both."""

    def forward(qkv, ids):
        return packed_attention(*qkv, make_plan(ids, backend))

    def both(qkv, ids):
        out, back = jax.vjp(functools.partial(forward, ids=ids), qkv)
        return back(out)

    return {"forward": jax.jit(forward), "both": jax.jit(both)}


def measure(cases: dict, heads: int, width: int, repeats: int) -> dict:
    """Median seconds of each case `(backend, ids)`, by program."""
    seconds = {case: {"forward": [], "both": []} for case in cases}
    made = {case: programs(backend, ids) for case, (backend, ids) in cases.items()}
    for turn in range(repeats + 1):
        for case, (_, ids) in cases.items():
            qkv = jax.random.normal(jax.random.key(0), (3, *ids.shape, heads, width))
            for name, run in made[case].items():
                jax.block_until_ready(qkv)
                began = time.perf_counter()
                jax.block_until_ready(run(qkv, ids))
                if turn:
                    seconds[case][name].append(time.perf_counter() - began)
    return {case: {name: statistics.median(each) for name, each in found.items()} for case, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--width", type=int, default=64, help="channels of a head")
    parser.add_argument("--length", type=int, default=32768)
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--short", type=int, nargs="*", default=[128, 184, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    backend = make_plan(cut_row(chosen.length, 1)).backend
    whole = measure({n: (backend, cut_row(chosen.length, n)) for n in chosen.clips}, chosen.heads, chosen.width, chosen.repeats)
    print(f"{backend}, {chosen.length:,} tokens, {chosen.heads} heads of {chosen.width}\n")
    print("| clips | forward s | share | forward and backward s | share |\n| --- | --- | --- | --- | --- |")
    one = whole[min(chosen.clips)]
    for clips, found in whole.items():
        cells = " | ".join(f"{found[name]:.3f} | 1/{one[name] / found[name]:.1f}" for name in ("forward", "both"))
        print(f"| {clips} | {cells} |")
    cases = {(n, name): (name, cut_row(n, 4)) for n in chosen.short for name in ("reference", "blocked")}
    short = measure(cases, chosen.heads, chosen.width, 4 * chosen.repeats)
    print("\n| tokens of a row, 4 clips | reference ms | blocked ms | times as fast |\n| --- | --- | --- | --- |")
    for n in chosen.short:
        a, b = (1e3 * short[n, name]["both"] for name in ("reference", "blocked"))
        print(f"| {n:,} | {a:.1f} | {b:.1f} | {a / b:.2f} |")
    if chosen.json:
        print(json.dumps({"whole": whole, "short": {f"{n} {name}": each for (n, name), each in short.items()}}))


if __name__ == "__main__":
    main()

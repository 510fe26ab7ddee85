#!/usr/bin/env python3
"""Forms of the VAE's convolutions on this machine, beside PyTorch's where that is installed.

    python experiments/benchmarks/convolutions.py [--runs 7] [--layers 3x3x3 ...] [--json]

For each layer and form: the forward pass, and the backward pass with it, in the median of interleaved runs. GFLOP/s count the operations of
the direct convolution, whatever a form really does, so one column compares them all. Core time is what all threads of the process took
together; on a machine that is shared it tells more than the clock. The error is the largest of a corner of the output against float64, over
the output's root mean square. Memory is what the compiled program holds besides arguments and results.
"""

import argparse
from dataclasses import asdict, dataclass, field
import functools
import json
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from videodit.models.vae.conv import convolve

try:
    import torch
except ImportError:
    torch = None

SPIN = 0.3  # seconds for which PyTorch's threads wait for work and take core time after a call


@dataclass(frozen=True, kw_only=True)
class Layer:
    """x `[1, frames, height, width, inputs]`, the past before it among its frames."""

    name: str
    x: tuple[int, int, int, int]
    outputs: int
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))

    @property
    def flops(self) -> int:
        sizes = zip(self.x[:3], ((0, 0), *self.padding), self.kernel, self.stride)
        out = math.prod((n + sum(p) - k) // s + 1 for n, p, k, s in sizes)
        return 2 * out * math.prod(self.kernel) * self.x[3] * self.outputs


LAYERS = (
    Layer(name="3x3x3, 96 channels", x=(6, 128, 128, 96), outputs=96),
    Layer(name="3x3x3, 192 channels", x=(6, 64, 64, 192), outputs=192),
    Layer(name="3x3x3, 384 channels", x=(6, 32, 32, 384), outputs=384),
    Layer(name="3x3x3, 96 channels, one frame", x=(3, 128, 128, 96), outputs=96),
    Layer(name="3x3x3, 96 channels, 17 frames", x=(19, 64, 64, 96), outputs=96),
    Layer(name="3x3x3, 384 channels, 16x16", x=(6, 16, 16, 384), outputs=384),
    Layer(name="3x3x3, 32 channels, 16x16, 20 frames", x=(22, 16, 16, 32), outputs=32),
    Layer(name="3x3x3, 96 to 3", x=(6, 128, 128, 96), outputs=3),
    Layer(name="3x3x3, 3 to 96", x=(6, 128, 128, 3), outputs=96),
    Layer(name="1x3x3, 192 to 96, after upsampling", x=(4, 128, 128, 192), outputs=96, kernel=(1, 3, 3)),
    Layer(name="1x3x3, 96 channels, stride 2", x=(4, 128, 128, 96), outputs=96, kernel=(1, 3, 3), stride=(1, 2, 2), padding=((0, 1),) * 2),
    Layer(name="3x1x1, 192 channels, stride 2", x=(9, 64, 64, 192), outputs=192, kernel=(3, 1, 1), stride=(2, 1, 1), padding=((0, 0),) * 2),
)


def summed(x, kernel, *, stride, padding):
    """A 2D convolution for each tap in time, summed."""
    out, frames = 0.0, (x.shape[1] - kernel.shape[0]) // stride[0] + 1
    for tap in range(kernel.shape[0]):
        seen = x[:, tap : tap + (frames - 1) * stride[0] + 1 : stride[0]]
        out += convolve(seen, kernel[tap : tap + 1], stride=(1, *stride[1:]), padding=padding, form="stacked")
    return out


def views(x, kernel, stride, padding):
    """x as each tap of the kernel sees it."""
    x = jnp.pad(x, ((0, 0), (0, 0), *padding, (0, 0)))
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:4], kernel.shape[:3], stride)]
    for tap in np.ndindex(*kernel.shape[:3]):
        yield tap, x[:, *(slice(at, at + (n - 1) * s + 1, s) for at, n, s in zip(tap, size, stride))]


def rows(x, kernel, *, stride, padding):
    """im2row: what a kernel sees lies in one row, and one matrix product does the rest."""
    return jnp.concatenate([seen for _, seen in views(x, kernel, stride, padding)], axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def taps(x, kernel, *, stride, padding):
    """A matrix product for each tap, summed."""
    return sum(seen @ kernel[tap] for tap, seen in views(x, kernel, stride, padding))


def forms(layer: Layer) -> dict:
    found = {name: functools.partial(convolve, form=name) for name in ("auto", "stacked", "volume")}
    if layer.stride == (1, 1, 1) and layer.kernel[1:] == (3, 3):
        found["winograd"] = functools.partial(convolve, form="winograd")
        if layer.outputs < 16:
            found["planes"] = functools.partial(convolve, form="planes")
    return found | {"summed": summed, "rows": rows, "taps": taps}


@dataclass
class Timing:
    """Of one form of one layer. Seconds of each run by the clock and of all cores, forward and then backward with forward."""

    layer: str
    form: str
    flops: int
    forward: list[tuple[float, float]] = field(default_factory=list)
    both: list[tuple[float, float]] = field(default_factory=list)
    error: float = math.nan
    memory: int = 0

    def clock(self, which: str, kind: int = 0) -> float:
        return float(np.median([run[kind] for run in getattr(self, which)]))


def corner_error(layer: Layer, x, kernel, found) -> float:
    """Of the first frame's 12x12 outputs of all channels."""
    corner = found[:, :1, :12, :12]
    ends = [(n - 1) * s + k - p for n, s, k, (p, _) in zip(corner.shape[2:4], layer.stride[1:], layer.kernel[1:], layer.padding)]
    x = np.pad(np.asarray(x, np.float64)[:, : layer.kernel[0]], ((0, 0), (0, 0), *layer.padding, (0, 0)))
    x = x[:, :, : ends[0] + layer.padding[0][0], : ends[1] + layer.padding[1][0]]
    wanted = 0.0
    for t, i, j in np.ndindex(*layer.kernel):
        seen = x[:, t : t + 1, i : x.shape[2] - layer.kernel[1] + 1 + i, j : x.shape[3] - layer.kernel[2] + 1 + j]
        wanted = wanted + seen[:, :, :: layer.stride[1], :: layer.stride[2]] @ kernel[t, i, j].astype(np.float64)
    return float(np.abs(corner - wanted).max() / np.sqrt(np.mean(wanted**2)))


def forward_and_backward(run, x, kernel, gradient):
    out, back = jax.vjp(run, x, kernel)
    return out, *back(gradient)


def ours(layer: Layer, x, kernel, gradient) -> dict:
    """(forward, forward and backward, and their measurements) of each form, compiled."""
    found, arrays = {}, [jnp.asarray(a) for a in (x, kernel, gradient)]
    for name, form in forms(layer).items():
        run = functools.partial(form, stride=layer.stride, padding=layer.padding)
        forward = jax.jit(run).lower(*arrays[:2]).compile()
        both = jax.jit(functools.partial(forward_and_backward, run)).lower(*arrays).compile()
        timing = Timing(layer.name, name, layer.flops, memory=forward.memory_analysis().temp_size_in_bytes)
        timing.error = corner_error(layer, x, kernel, np.asarray(forward(*arrays[:2]), np.float64))
        calls = [lambda f=f, a=a: jax.block_until_ready(f(*a)) for f, a in ((forward, arrays[:2]), (both, arrays))]
        found[name] = (timing, *calls)
    return found


def theirs(layer: Layer, x, kernel, gradient):
    """The same of PyTorch, channels first as its models are."""
    to = lambda a: torch.from_numpy(a).permute(0, 4, 1, 2, 3).contiguous()
    x_t, gradient_t = to(x).requires_grad_(), to(gradient)
    kernel_t = torch.from_numpy(kernel).permute(4, 3, 0, 1, 2).contiguous().requires_grad_()
    (top, bottom), (left, right) = layer.padding
    even = top == bottom and left == right
    padding = (0, top, left) if even else 0

    def forward():
        seen = x_t if even else torch.nn.functional.pad(x_t, (left, right, top, bottom))
        return torch.nn.functional.conv3d(seen, kernel_t, stride=layer.stride, padding=padding)

    def alone():
        with torch.no_grad():
            out = forward()
        return out

    timing = Timing(layer.name, "PyTorch", layer.flops)
    timing.error = corner_error(layer, x, kernel, alone().permute(0, 2, 3, 4, 1).numpy().astype(np.float64))
    return timing, alone, lambda: forward().backward(gradient_t)


def measure(layer: Layer, runs: int) -> list[Timing]:
    random = np.random.default_rng(0)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    x, kernel = (
        draw(1, *layer.x),
        draw(*layer.kernel, layer.x[3], layer.outputs) / np.float32(np.sqrt(math.prod(layer.kernel) * layer.x[3])),
    )
    run = functools.partial(convolve, stride=layer.stride, padding=layer.padding)
    gradient = draw(*jax.eval_shape(run, x, kernel).shape)
    every = ours(layer, x, kernel, gradient) | ({"PyTorch": theirs(layer, x, kernel, gradient)} if torch else {})
    for number in range(runs + 1):  # the first warms up
        for name, (timing, forward, both) in every.items():
            for call, into in ((forward, timing.forward), (both, timing.both)):
                start = time.perf_counter(), time.process_time()
                call()
                if number:
                    into.append((time.perf_counter() - start[0], time.process_time() - start[1]))
                if name == "PyTorch":
                    time.sleep(SPIN)
    return [timing for timing, _, _ in every.values()]


def table(found: list[Timing]) -> str:
    """The measurement for a person, in Markdown."""
    lines = [
        "| layer | form | forward ms | GFLOP/s | core ms | both ms | GFLOP/s | core ms | x PyTorch forward, by cores | both, by cores "
        "| error | memory MB |",
        "| --- " * 12 + "|",
    ]
    reference = {timing.layer: timing for timing in found if timing.form == "PyTorch"}
    for timing in found:
        cells = []
        for which, passes in (("forward", 1), ("both", 3)):
            clock = timing.clock(which)
            cells += [f"{1e3 * clock:.1f}", f"{passes * timing.flops / clock / 1e9:.0f}", f"{1e3 * timing.clock(which, 1):.1f}"]
        for which in ("forward", "both"):
            other = reference.get(timing.layer)
            ratio = lambda kind, which=which, other=other, timing=timing: other.clock(which, kind) / timing.clock(which, kind)
            cells.append(f"{ratio(0):.2f}, {ratio(1):.2f}" if other else "")
        memory = f"{timing.memory / 1e6:.0f}" if timing.form != "PyTorch" else ""
        lines.append("| " + " | ".join([timing.layer, timing.form, *cells, f"{timing.error:.1e}", memory]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each; their median counts")
    parser.add_argument("--layers", nargs="*", default=[""], help="only layers whose names hold one of these")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    layers = [layer for layer in LAYERS if any(part in layer.name for part in chosen.layers)]
    found = [timing for layer in layers for timing in measure(layer, chosen.runs)]
    print(json.dumps([asdict(timing) for timing in found]) if chosen.json else table(found))


if __name__ == "__main__":
    main()

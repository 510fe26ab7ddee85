#!/usr/bin/env python3
"""The Wan 2.1 VAE here and in PyTorch (diffusers.AutoencoderKLWan): the same random weights, clip, machine and run.

    python experiments/benchmarks/vae.py [--size 128x128] [--frames 17] [--repeats 3] [--memory 17,257] [--width 96] [--json]

Both stream: PyTorch one latent after another, as diffusers does, and here as the plan for the machine's memory says. Times are medians of
runs that take turns in one process, after one that warms up. Memory is the most that a process of its own holds resident while it encodes
and decodes, above what it held with its weights loaded; one process for each side and number of frames. Needs torch and diffusers.
"""

import argparse
import json
from pathlib import Path
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[2]))


def make_weights(folder: Path, width: int) -> None:
    """A diffusers directory with weights that keep signals of about unit size."""
    from diffusers import AutoencoderKLWan
    import torch

    torch.manual_seed(0)
    module = AutoencoderKLWan(base_dim=width)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1 and "gamma" not in name:
                parameter.normal_(std=float(np.prod(parameter.shape[1:])) ** -0.5)
    module.save_pretrained(folder)


def clip_of(frames: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[T, H, W, 3]`: gradients that move."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return np.stack([2 * x + 3 * t, 3 * y + 5 * t + x, x + 2 * y], axis=-1).astype(np.uint8)


class PyTorch:
    name = "PyTorch"

    def __init__(self, folder: str, threads: int):
        from diffusers import AutoencoderKLWan
        import torch

        torch.set_num_threads(threads)
        self._torch, self._module = torch, AutoencoderKLWan.from_pretrained(folder).eval()

    def encode(self, clip: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            pixels = self._torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
            return self._module.encode(pixels).latent_dist.mode()[0].permute(1, 2, 3, 0).numpy()

    def decode(self, latents: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            pixels = self._module.decode(self._torch.from_numpy(latents).permute(3, 0, 1, 2)[None]).sample[0]
            return ((pixels + 1.0) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()


class Ours:
    name = "videodit"

    def __init__(self, folder: str, threads: int):
        from videodit.models.vae import streaming
        from videodit.models.vae.model import VAE
        from videodit.models.vae.wan import load_wan

        config, self._params, _, _ = load_wan(folder)
        self._module, self._streaming = VAE(config), streaming

    def encode(self, clip: np.ndarray) -> np.ndarray:
        plan = self._streaming.make_plan(self._module, self._params, clip.shape[1:3], "encode")
        return np.concatenate([mean for mean, _ in self._streaming.encode_chunks(self._module, self._params, clip, plan)])

    def decode(self, latents: np.ndarray) -> np.ndarray:
        size = tuple(8 * side for side in latents.shape[1:3])
        plan = self._streaming.make_plan(self._module, self._params, size, "decode")
        return np.concatenate(list(self._streaming.decode_chunks(self._module, self._params, latents, plan)))


def timed(function, argument):
    began = time.perf_counter()
    out = function(argument)
    return time.perf_counter() - began, out


def compare(folder: str, clip: np.ndarray, repeats: int) -> dict:
    """Median seconds of each side and what they differ by."""
    sides = [PyTorch(folder, 2), Ours(folder, 2)]
    seconds: dict[str, dict[str, list[float]]] = {side.name: {"encode": [], "decode": []} for side in sides}
    made: dict[str, dict[str, np.ndarray]] = {side.name: {} for side in sides}
    for turn in range(repeats + 1):
        for side in sides:
            took, latents = timed(side.encode, clip)
            back, pixels = timed(side.decode, latents)
            made[side.name] = {"latents": latents, "pixels": pixels}
            if turn:
                seconds[side.name]["encode"].append(took)
                seconds[side.name]["decode"].append(back)
    ours, theirs = made["videodit"], made["PyTorch"]
    found = {
        "latents_differ_by": float(np.abs(ours["latents"] - theirs["latents"]).max()),
        "grey_levels_differ_by": int(np.abs(ours["pixels"].astype(int) - theirs["pixels"]).max()),
    }
    for direction in ("encode", "decode"):
        medians = {name: statistics.median(each[direction]) for name, each in seconds.items()}
        found[direction] = medians | {"ratio": medians["PyTorch"] / medians["videodit"]}
    return found


def peak_of(side: str, folder: str, frames: int, size: tuple[int, int]) -> int:
    """Bytes, measured in a process of its own."""
    command = [sys.executable, str(HERE), "--child", side, "--weights", folder, "--frames", str(frames), "--size", f"{size[1]}x{size[0]}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def child(side: str, folder: str, frames: int, size: tuple[int, int]) -> None:
    made = {"videodit": Ours, "PyTorch": PyTorch}[side](folder, 2)
    clip = clip_of(frames, size)
    resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    before = resident()
    made.decode(made.encode(clip))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="128x128", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", default="17,257", help="numbers of frames to measure memory at, '' for none")
    parser.add_argument("--memory_size", default="64x64", help="WIDTHxHEIGHT at which memory is measured")
    parser.add_argument("--width", type=int, default=96, help="channels of the first stage; 96 is the public size")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    parse = lambda text: tuple(int(side) for side in reversed(text.split("x")))
    if arguments.child:
        child(arguments.child, arguments.weights, arguments.frames, parse(arguments.size))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder), arguments.width)
        found = compare(folder, clip_of(arguments.frames, parse(arguments.size)), arguments.repeats)
        frames = [int(each) for each in arguments.memory.split(",") if each]
        found["peak_bytes"] = {
            side: {str(n): peak_of(side, folder, n, parse(arguments.memory_size)) for n in frames} for side in ("PyTorch", "videodit")
        }
    print(f"Wan 2.1, width {arguments.width}, {arguments.frames} frames of {arguments.size}\n")
    print("| | PyTorch, s | videodit, s | times as fast |\n| --- | --- | --- | --- |")
    for direction in ("encode", "decode"):
        each = found[direction]
        print(f"| {direction} | {each['PyTorch']:.2f} | {each['videodit']:.2f} | {each['ratio']:.2f} |")
    print(f"\nlatents differ by {found['latents_differ_by']:.1e} at most, pixels by {found['grey_levels_differ_by']} grey levels\n")
    if frames:
        heads = " | ".join(f"{n} frames" for n in frames)
        print(f"| peak MB above weights, {arguments.memory_size} | {heads} |\n| --- |{' --- |' * len(frames)}")
        for side, peaks in found["peak_bytes"].items():
            print(f"| {side} | {' | '.join(f'{peaks[str(n)] / 1e6:,.0f}' for n in frames)} |")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

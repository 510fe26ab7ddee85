#!/usr/bin/env python3
"""The transformer's training step on packed rows, beside the same model in PyTorch on batches padded to their longest sample.

    python experiments/benchmarks/dit.py [--width 384] [--depth 6] [--length 4096] [--repeats 4] [--json]

Both sides have the same weights (by way of the exported safetensors), samples, noise levels and noise, and take the same AdamW step in
float32; their losses must agree. Two sets of samples: "mixed", stills and clips of many sizes, and "equal", all of one length. PyTorch
runs its scaled-dot-product attention, with a mask of the padding where there is any. Tokens a second count real tokens (text and
patches) alone; FLOPs count products over real tokens and the pairs inside samples, so padding earns nothing on either side. The rate of
plain matrix products is that of the model's own shapes, measured in the same process. The sides take turns, three steps each, of which the
first is not counted; medians. Needs torch.
"""

import argparse
import json
from pathlib import Path
import statistics
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from videodit.core.segments import PATCH, TEXT
from videodit.data.packing import concatenate_rows, length_of, pack_rows, tokens_of
from videodit.models.dit.interchange import export_dit
from videodit.models.dit.model import DiT, DiTConfig, forward_flops
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.refiner import TextRefinerConfig

CHANNELS, VOCABULARY, TEXT_TOKENS = 16, 256, 16
# Text as simple as it can be, since PyTorch's side has to follow: a table, and no refiner.
TEXT_EMBEDDER = TextEmbedderConfig(vocabulary=VOCABULARY, refiner=TextRefinerConfig(depth=0))
# Patches (time, height, width) of samples that come up equally often: stills at three sizes, and clips of 5, 9 and 17 latent frames.
MIXED = ((1, 8, 8), (1, 8, 12), (1, 12, 16), (5, 8, 8), (5, 6, 10), (9, 8, 10), (17, 6, 8), (1, 10, 6))
EQUAL = ((4, 8, 15),)


def draw_samples(sizes, count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    latents = [random.normal(size=(*sizes[i % len(sizes)], CHANNELS)).astype(np.float32) for i in range(count)]
    text = lambda: [random.integers(3, VOCABULARY, (TEXT_TOKENS, 1), np.int32)]
    return [tokens_of(each, text(), (1, 1, 1), i) for i, each in enumerate(latents)]


def with_noise(samples):
    """Each sample's noise level and noise."""
    random = np.random.default_rng(1)
    return [each | {"level": np.float32(random.uniform(0.1, 0.9)), "noise": random.normal(size=each["patches"].shape).astype(np.float32)}
            for each in samples]  # fmt: skip


class Ours:
    name = "videodit, packed"

    def __init__(self, config: DiTConfig, params, samples, length: int):
        lengths = [length_of(each) for each in samples]
        packed, left = pack_rows(lengths, 0, length, len(samples))
        assert not left
        rows = [[samples[i] for i in row] for row in packed]
        batch = concatenate_rows([[{k: v for k, v in each.items() if k not in ("level", "noise")} for each in row] for row in rows], length)
        self.fill = sum(lengths) / batch["segment_ids"].size
        self.shape = batch["segment_ids"].shape
        level, noise = np.zeros(self.shape, np.float32), np.zeros_like(batch["patches"])
        for r, row in enumerate(rows):
            at = 0
            for each in row:
                stop = at + length_of(each)
                level[r, at:stop], noise[r, at:stop] = each["level"], each["noise"]
                at = stop
        level *= batch["modality"] == PATCH
        self._batch = jax.device_put({k: v for k, v in batch.items() if k != "clip"} | {"level": level, "noise": noise})
        module, optimizer = DiT(config, CHANNELS, TEXT_EMBEDDER), optax.adamw(1e-4, b2=0.99, weight_decay=0.01)
        self._state = jax.device_put((params, optimizer.init(params)))

        def loss(params, batch):
            t = batch["level"][..., None]
            out = module.apply({"params": params}, (1 - t) * batch["patches"] + t * batch["noise"], batch["level"], batch)
            counted = batch["modality"] == PATCH
            return (jnp.square(out - (batch["noise"] - batch["patches"])).mean(-1) * counted).sum() / counted.sum()

        def step(state, batch):
            params, moments = state
            value, gradients = jax.value_and_grad(loss)(params, batch)
            updates, moments = optimizer.update(gradients, moments, params)
            return (optax.apply_updates(params, updates), moments), value

        self._step = jax.jit(step, donate_argnums=0)

    def step(self) -> float:
        self._state, value = self._step(self._state, self._batch)
        return float(value)


def torch_model(config: DiTConfig, folder: Path):
    """The same network in PyTorch, with the exported weights."""
    import math

    from safetensors.torch import load_file
    import torch
    from torch import nn
    import torch.nn.functional as F

    rms = lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            w = config.width
            self.qkv, self.up = nn.Linear(w, 3 * w, bias=False), nn.Linear(w, 2 * config.mlp_width, bias=False)
            self.attention_out, self.down = nn.Linear(w, w, bias=False), nn.Linear(config.mlp_width, w, bias=False)
            self.modulation_bias = nn.Parameter(torch.zeros(3 * w))
            self.q_scale, self.k_scale = (nn.Parameter(torch.ones(w // config.heads)) for _ in range(2))

        def forward(self, x, modulation, cos, sin, mask):
            shift, scale, gate = (modulation + self.modulation_bias).chunk(3, -1)
            h = rms(x) * (1 + scale) + shift
            q, k, v = self.qkv(h).unflatten(-1, (3, config.heads, -1)).permute(2, 0, 3, 1, 4)

            def turned(y, weight):
                y = rms(y) * weight
                a, b = y.chunk(2, -1)
                return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

            attended = F.scaled_dot_product_attention(turned(q, self.q_scale), turned(k, self.k_scale), v, attn_mask=mask)
            attended = attended.transpose(1, 2).flatten(-2)
            open_, value = self.up(h).chunk(2, -1)
            return x + gate * (self.attention_out(attended) + self.down(F.silu(open_) * value))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            w = config.width
            self.text_embed = nn.ParameterDict({"weight": torch.zeros(1, VOCABULARY, w)})
            self.patch_embed = nn.Linear(CHANNELS, w)
            self.condition_in, self.modulation = nn.Linear(68, w), nn.Linear(w, 3 * w)
            self.blocks = nn.ModuleList(Block() for _ in range(config.depth))
            self.final_modulation, self.head = nn.Linear(w, 2 * w), nn.Linear(w, CHANNELS)

        def forward(self, batch):
            t = batch["level"]
            noised = (1 - t[..., None]) * batch["patches"] + t[..., None] * batch["noise"]
            text = F.embedding(batch["text_ids"], self.text_embed["weight"][0])
            x = torch.where((batch["modality"] == TEXT)[..., None], text, self.patch_embed(noised))
            rates = 10_000.0 ** (-torch.arange(32) / 32)
            angles = (t * 1000)[..., None] * rates
            features = torch.cat([angles.cos(), angles.sin(), torch.log1p(batch["extent"].float()), torch.zeros_like(t)[..., None]], -1)
            condition = F.silu(self.condition_in(features))
            modulation = self.modulation(condition)
            pairs = config.width // config.heads // 2
            per_axis = (pairs // 4, (pairs - pairs // 4) // 2)
            per_axis = (*per_axis, pairs - sum(per_axis))
            turns = [batch["positions"][..., axis, None] * config.rope_theta ** (-torch.arange(n) / n) for axis, n in enumerate(per_axis)]
            angles = torch.cat(turns, -1)[:, None]
            cos, sin = angles.cos(), angles.sin()
            mask = None if bool(batch["real"].all()) else batch["real"][:, None, None]
            for block in self.blocks:
                x = block(x, modulation, cos, sin, mask)
            shift, scale = self.final_modulation(condition).chunk(2, -1)
            return self.head(rms(x) * (1 + scale) + shift)

    assert config.mlp == "swiglu" and math.prod(config.patch) == 1
    model = Model()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


class PyTorch:
    name = "PyTorch, padded"

    def __init__(self, config: DiTConfig, folder: Path, samples, batch: int):
        import torch

        self._torch, self._model = torch, torch_model(config, folder)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.01)
        self._batches = [self._padded(samples[at : at + batch]) for at in range(0, len(samples), batch)]
        slots = sum(each["text_ids"].numel() for each in self._batches)
        self.fill = sum(length_of(each) for each in samples) / slots
        self.shape = [tuple(each["text_ids"].shape) for each in self._batches]
        self._patches = sum(int((each["modality"] == PATCH).sum()) for each in self._batches)

    def _padded(self, samples):
        longest = max(length_of(each) for each in samples)
        fill = lambda x: np.concatenate([x, np.zeros((longest - len(x), *x.shape[1:]), x.dtype)])
        ids = lambda each: np.concatenate([each["text"][0][:, 0], np.zeros(length_of(each) - TEXT_TOKENS, np.int32)])
        samples = [each | {"text_ids": ids(each)} for each in samples]
        names = ("patches", "text_ids", "modality", "positions", "extent", "noise")
        batch = {name: self._torch.from_numpy(np.stack([fill(each[name]) for each in samples])) for name in names}
        batch["text_ids"] = batch["text_ids"].long()
        batch["real"] = batch["modality"] > 0
        level = self._torch.tensor([float(each["level"]) for each in samples])[:, None]
        return batch | {"level": level * (batch["modality"] == PATCH)}

    def step(self) -> float:
        """One optimizer step over all batches, as the packed rows are one step."""
        total = 0.0
        for batch in self._batches:
            counted = batch["modality"] == PATCH
            error = (self._model(batch) - (batch["noise"] - batch["patches"])).square().mean(-1)
            loss = (error * counted).sum() / self._patches
            loss.backward()
            total += float(loss.detach())
        self._optimizer.step()
        self._optimizer.zero_grad()
        return total


def matmul_rate(width: int, mlp: int, tokens: int) -> float:
    """FLOP/s of XLA's products of the block's shapes, forward alone, one after another."""
    shapes = ((width, 3 * width), (width, 2 * mlp), (width, width), (mlp, width))
    x = {side: jnp.ones((tokens, side)) for side in {width, mlp}}
    weights = [jnp.ones(shape) for shape in shapes]
    run = jax.jit(lambda x, ws: sum((x[w.shape[0]] @ w).sum() for w in ws))
    run(x, weights).block_until_ready()
    times = []
    for _ in range(9):
        began = time.perf_counter()
        run(x, weights).block_until_ready()
        times.append(time.perf_counter() - began)
    return sum(2 * tokens * a * b for a, b in shapes) / statistics.median(times)


def compare(config: DiTConfig, sizes, length: int, count: int, batch: int, repeats: int) -> dict:
    samples = with_noise(draw_samples(sizes, count))
    model = DiT(config, CHANNELS, TEXT_EMBEDDER)
    row = {k: jnp.asarray(v) for k, v in concatenate_rows([draw_samples(sizes, 1)], length).items()}
    shapes = jax.eval_shape(model.init, jax.random.key(0), row["patches"], jnp.zeros(row["modality"].shape), row)["params"]
    random = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: (random.normal(size=leaf.shape) * 0.02 + (leaf.ndim == 1)).astype(np.float32), shapes)
    with tempfile.TemporaryDirectory() as folder:
        export_dit(folder, model, params)
        sides = [Ours(config, params, samples, length), PyTorch(config, Path(folder), samples, batch)]
    seconds, losses = {side.name: [] for side in sides}, {}
    for _ in range(repeats):
        for side in sides:
            losses.setdefault(side.name, side.step())  # not timed: after the other side's step, memory and caches are not as in training
            for _ in range(2):
                began = time.perf_counter()
                side.step()
                seconds[side.name].append(time.perf_counter() - began)
    ours, theirs = (losses[side.name] for side in sides)
    assert abs(ours - theirs) < 1e-4 * abs(theirs), f"losses of one model differ: {ours} and {theirs}"
    lengths = np.array([length_of(each) for each in samples])
    flops = 3 * forward_flops(
        config, CHANNELS, TEXT_TOKENS * count, float(lengths.sum()) - TEXT_TOKENS * count, float((lengths**2.0).sum())
    )
    found = {"tokens": int(lengths.sum()), "losses": losses}
    for side in sides:
        median = statistics.median(seconds[side.name])
        found[side.name] = {"seconds": median, "tokens_per_second": lengths.sum() / median, "flops_per_second": flops / median,
                            "fill": side.fill, "shape": side.shape}  # fmt: skip
    found["ratio"] = found[sides[0].name]["tokens_per_second"] / found[sides[1].name]["tokens_per_second"]
    found["of_matmul"] = found[sides[0].name]["flops_per_second"] / matmul_rate(config.width, config.mlp_width, length)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--length", type=int, default=4096, help="tokens of a packed row")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8, help="samples of a padded batch")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    config = DiTConfig(width=chosen.width, depth=chosen.depth, heads=chosen.heads, unroll=chosen.depth)
    found = {
        name: compare(config, sizes, chosen.length, chosen.samples, chosen.batch, chosen.repeats)
        for name, sizes in (("mixed", MIXED), ("equal", EQUAL))
    }
    print("| samples | side | real tokens/s | GFLOP/s | filled | times PyTorch | of plain products |\n" + "| --- " * 7 + "|")
    for name, each in found.items():
        for side in (Ours.name, PyTorch.name):
            row, ours = each[side], side == Ours.name
            extra = f"{each['ratio']:.2f} | {each['of_matmul']:.0%}" if ours else "1.00 | "
            print(
                f"| {name} | {side} | {row['tokens_per_second']:,.0f} | {row['flops_per_second'] / 1e9:.0f} | {row['fill']:.0%} | {extra} |"
            )
    if chosen.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

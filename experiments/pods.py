"""Training runs for pods of TPU v5p, from images to a minute of 1080p. Each passes `videodit preflight` on the pod that it names.

None of these has been trained: they are where a run at that size begins. The transformer's sizes and learning rate are on the rule of
`videodit/models/dit/sizes.py`; data, VAE and text are the run's own to name (`data.path`, `latents.vae`, `text`).

    videodit preflight --config=experiments/pods.py:8b --topology=v5p:4x4x8
    python launch/submit.py gke --config experiments/pods.py:8b --topology v5p:4x4x8 --workdir gs://BUCKET/run --image IMAGE

Rows are given for these pods: on a larger one take more (`--config.packing.rows`), by `--search`.

What preflight said of them on 2026-11-23: GiB of the 95 of a chip that the train step takes at its peak, seconds a step, the share of the
chips' peak FLOP/s, tokens a second, days for all steps (`experiments/benchmarks/results/pods.md`, `python experiments/benchmarks/pods.py`):

| run | pod | peak GiB | step s | MFU | tokens/s | days |
| --- | --- | --- | --- | --- | --- | --- |
| image_1b | v5p:2x2x4 | 44.5 | 3.46 | 36.6% | 302,627 | 4.0 |
| video_1b | v5p:2x2x4 | 26.4 | 5.30 | 35.8% | 111,327 | 6.1 |
| 3b | v5p:4x4x4 | 53.9 | 13.01 | 37.7% | 181,379 | 15.1 |
| 8b | v5p:4x4x8 | 52.6 | 9.03 | 45.6% | 290,359 | 20.9 |
| 30b | v5p:8x16x16 | 83.3 | 267.12 | 36.6% | 94,212 | 30.9 |

Of a minute of 1080p 95 % of the FLOPs are attention's, so that its MFU is what the attention kernel reaches, taken as half the peak.
"""

from dataclasses import dataclass

import ml_collections

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.data.order import PackingConfig
from videodit.data.pipeline import VAEStage
from videodit.data.sizes import SizePolicy
from videodit.diffusion.known import EVERY_TASK
from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.sizes import BASE_WIDTH, dit_config
from videodit.models.text.config import TextConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.models.vae.wan import wan_config
from videodit.sharding.mesh import MeshConfig
from videodit.training import config as c


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A run: the transformer's size, the VAE's version, the largest clip by frames and tokens at a rate, the rows and the mesh."""

    topology: str
    size: str
    vae: str
    fps: float
    max_frames: int
    max_tokens: int
    length: int
    rows: int
    steps: int
    mesh: MeshConfig
    changes: dict


PODS = {
    # images of up to 1024x1024: 64 x 64 tokens
    "image_1b": Pod(
        topology="v5p:2x2x4", size="1b", vae="2.1", fps=16.0, max_frames=1, max_tokens=4096, length=32768, rows=32, steps=100_000,
        mesh=MeshConfig(fsdp=16), changes={},
    ),
    # 5 s of 832x480 at 16 frames a second: 21 x 30 x 52 tokens
    "video_1b": Pod(
        topology="v5p:2x2x4", size="1b", vae="2.1", fps=16.0, max_frames=81, max_tokens=32760, length=36864, rows=16, steps=100_000,
        mesh=MeshConfig(fsdp=16), changes={},
    ),
    "3b": Pod(
        topology="v5p:4x4x4", size="3b", vae="2.1", fps=16.0, max_frames=81, max_tokens=32760, length=36864, rows=64, steps=100_000,
        mesh=MeshConfig(fsdp=64), changes={},
    ),
    # 5 s of 1280x720: 21 x 22 x 40 tokens of 4x32x32 pixels
    "8b": Pod(
        topology="v5p:4x4x8", size="8b", vae="2.2", fps=16.0, max_frames=81, max_tokens=18480, length=20480, rows=128, steps=200_000,
        mesh=MeshConfig(fsdp=128), changes={},
    ),
    # a minute of 1920x1080 at 24: 361 x 34 x 60 tokens, a row over 64 chips
    "30b": Pod(
        topology="v5p:8x16x16", size="30b", vae="2.2", fps=24.0, max_frames=1441, max_tokens=736_440, length=786_432, rows=32, steps=10_000,
        mesh=MeshConfig(fsdp=32, context=64),
        changes={"remat": "named", "context_attention": "ring", "rope_extent": (384, 256, 256)},
    ),
}  # fmt: skip


def get_config(variant: str = "video_1b") -> ml_collections.ConfigDict:
    """The experiment of a pod: image_1b, video_1b, 3b, 8b or 30b."""
    if variant not in PODS:
        raise UserError(f"variant {variant!r} of pods.py: expected one of {', '.join(PODS)}")
    pod = PODS[variant]
    dit = dit_config(pod.size, **pod.changes)
    vae = wan_config(pod.vae, dtype="bfloat16")
    policy = SizePolicy(
        fps=pod.fps,
        max_frames=pod.max_frames,
        max_tokens=pod.max_tokens,
        min_side=256,
        grid=tuple(a * b for a, b in zip(vae.stride, dit.patch)),
    )
    experiment = c.ExperimentConfig(
        model="dit",
        vae=vae,
        vae_training=c.VAETrainingConfig(stages=(VAEStage(policy=SizePolicy(grid=vae.stride)),)),
        latents=c.LatentsConfig(policy=policy),
        text=TextConfig(refiner=TextRefinerConfig(heads=dit.heads, dtype=dit.dtype)),
        dit=dit,
        process=ProcessConfig(known=EVERY_TASK),
        packing=PackingConfig(length=pod.length, rows=pod.rows, bins=4 * pod.rows, max_text_tokens=256),
        optimizer=c.OptimizerConfig(
            learning_rate=2e-3, base_width=BASE_WIDTH, warmup=2000, b2=0.95, weight_decay=0.1, ema_decay=0.9999, end_factor=0.1
        ),
        train=c.TrainConfig(steps=pod.steps, log_every=100, save_every=1000, sample_every=5000, keep=3, keep_every=20_000, threads=16),
        mesh=pod.mesh,
        sample=c.SampleConfig(fps=pod.fps),
    )
    return ml_collections.ConfigDict(to_dict(experiment))

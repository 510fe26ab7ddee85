"""A strong VAE: 4x16x16 with 48 channels, in the form of Wan 2.2 (705 M parameters). For a host of 8 GPUs of 80 GB, or a pod.

A fourth of the tokens of 4x8x8 at the same size of frames, and 1.33 times fewer numbers: the transformer's cost falls, and its latents hold
more. Parameters, optimizer and average are split over all devices (`mesh.fsdp`).

It has NOT been trained at this size by us. The variant `smoke`, which runs every stage of its schedule on a laptop's CPU in a few minutes,
shows that it runs and no more.

    videodit prepare --config=experiments/vae_4x16x16.py --workdir=runs/vae --config.data.inputs=CLIPS
    videodit train --config=experiments/vae_4x16x16.py --workdir=runs/vae --config.data.inputs=CLIPS \\
        --config.vae_training.loss.perceptual.network=vgg16.safetensors --config.vae_training.loss.perceptual.heads=vgg.safetensors
    videodit evaluate --workdir=runs/vae

`--config.vae_training.start=FILE` begins with public weights of this form. LPIPS is off where its weights, which
`videodit/models/vae/perceptual.py` says how to make, are not named; the log says so.

What it is after. How Wan 2.2's VAE was trained is not published: the order and the losses are those of `vae_4x8x8.py`, which says where
they are from; sizes are larger, since the network works at half the height and width.

What to compare with, on the same held-out clips and never across data sets: the public weights, measured as `vae_4x8x8.py` says. We know
of no published PSNR of theirs. Nearest in compression, Cosmos' 8x16x16 has 32.55 dB on DAVIS (the model card of NVIDIA's
Cosmos-Tokenizer-CV8x16x16), with 6 times fewer numbers.

What it costs, calculated and not measured. The FLOPs of convolutions and matrix products of the traced steps, discriminator and LPIPS
included, are 2.7e20 for the whole schedule where clips fill the largest size; at a fifth of the peak of 8 H100, which is assumed, 47 hours.
What a step of the last stage keeps for its gradients is 47 GB a clip as traced, of which XLA may compute a part again: a clip a GPU.
Larger frames are split over devices: `--config.mesh.context=2`.
"""

from dataclasses import replace

import ml_collections

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.data.pipeline import VAEStage
from videodit.data.prepare import DataConfig
from videodit.data.sizes import SizePolicy
from videodit.data.worlds import WorldsConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.vae.discriminator import AdversarialConfig
from videodit.models.vae.losses import PerceptualConfig, VAELossConfig
from videodit.models.vae.wan import wan_config
from videodit.sharding.mesh import MeshConfig
from videodit.training import config as c

GRID = (4, 16, 16)


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """The experiment, or `smoke`. `data.inputs` is where the clips are, "clips" if nothing is said."""
    if variant not in ("full", "smoke"):
        raise UserError(f"variant {variant!r} of vae_4x16x16.py: expected 'full' or 'smoke'")
    experiment = _full() if variant == "full" else _smoke(_full())
    return ml_collections.ConfigDict(to_dict(experiment))


def _full() -> c.ExperimentConfig:
    stages = (
        VAEStage(policy=_policy(5, 128), images=0.8, batch=128, max_buckets=6),
        VAEStage(step=100_000, policy=_policy(17, 256), images=0.2, batch=16, max_buckets=6),
        VAEStage(step=200_000, policy=_policy(17, 320), images=0.2, batch=8, max_buckets=6),
    )
    game = AdversarialConfig(weight=0.5, start=stages[-1].step)
    return c.ExperimentConfig(
        model="vae",
        data=DataConfig(source="files", inputs="clips"),
        vae=wan_config("2.2", dtype="bfloat16"),
        vae_training=c.VAETrainingConfig(
            stages=stages,
            loss=VAELossConfig(l1=3.0, l2=0.0, kl=3e-6, perceptual=PerceptualConfig(weight=3.0), adversarial=game),
        ),
        latents=c.LatentsConfig(policy=stages[-1].policy),
        dit=DiTConfig(patch=(1, 1, 1)),
        optimizer=c.OptimizerConfig(learning_rate=1e-4, warmup=1000, end_factor=0.1, weight_decay=1e-4, ema_decay=0.999),
        train=c.TrainConfig(steps=300_000, log_every=100, save_every=2500, sample_every=10_000, threads=16),
        mesh=MeshConfig(data=1, fsdp=-1),
        evaluate=c.EvaluateConfig(reconstructions=256),
    )


def _policy(frames: int, side: int) -> SizePolicy:
    """Clips of `frames` frames at 24 a second, as Wan 2.2's are, of as many pixels as squares of `side`."""
    return SizePolicy(fps=24.0, max_frames=frames, grid=GRID, max_tokens=(1 + (frames - 1) // GRID[0]) * (side // GRID[1]) ** 2)


def _smoke(full: c.ExperimentConfig) -> c.ExperimentConfig:
    """The same, 20,000 times as short, an eighth as large a side and a twentieth as wide, on worlds."""
    of_stage = lambda stage: {"step": stage.step // 20_000, "batch": stage.batch // 8, "max_buckets": 1}
    smaller = lambda policy: replace(policy, max_tokens=policy.max_tokens // 64)
    stages = tuple(replace(stage, **of_stage(stage), policy=smaller(stage.policy)) for stage in full.vae_training.stages)
    game = replace(full.vae_training.loss.adversarial, start=stages[-1].step, width=8)
    worlds = WorldsConfig(count=24, sizes=((48, 64), (64, 48)), frames=(1, 17), fps=24.0)
    return replace(
        full,
        data=DataConfig(worlds=worlds, held_out_count=6, shards=2),
        vae=wan_config("2.2", width=8, blocks=1),
        vae_training=replace(full.vae_training, stages=stages, loss=replace(full.vae_training.loss, adversarial=game)),
        latents=c.LatentsConfig(policy=stages[-1].policy),
        optimizer=replace(full.optimizer, warmup=1),
        train=c.TrainConfig(steps=full.train.steps // 20_000, log_every=1, save_every=5, sample_every=15),
        evaluate=c.EvaluateConfig(reconstructions=4),
    )

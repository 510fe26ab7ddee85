"""A 4x8x8 VAE with 16 channels that a laptop's CPU trains, on somebody's own clips at small size.

Before its blocks overlapped, with AdamW and no augmentation, 2,700 steps took 19 min 49 s on 2 CPU cores; it has not been run since. On 101
real files, a fourth held out, it reached 26.4 dB on held-out windows of up to 17 frames, about 128x80: 4.2 dB above bicubic scaling by its
stride, 0.5 above bicubic to as many numbers as its latents, with the split between space and time that suits each clip best
(experiments/benchmarks/results/vae_small.md, with the curve).

    videodit prepare --config=experiments/vae_small.py:worlds --workdir=runs/vae_small_worlds
    videodit prepare --config=experiments/vae_small.py --workdir=runs/vae_small --config.data.inputs=CLIPS
    videodit train --config=experiments/vae_small.py --workdir=runs/vae_small --config.data.inputs=CLIPS
    videodit evaluate --workdir=runs/vae_small

Trains on clips and, so that smooth shading and sharp edges are seen too, on 32 worlds beside them.
"""

import ml_collections

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.data.augmentation import AugmentConfig
from videodit.data.pipeline import VAEStage
from videodit.data.prepare import DataConfig
from videodit.data.sizes import SizePolicy
from videodit.data.worlds.config import WorldsConfig
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.training import config as c


def get_config(variant: str = "clips") -> ml_collections.ConfigDict:
    """The experiment, with `data.inputs` a folder of clips, "clips" if none is named; variant "worlds" is of the worlds beside them."""
    if variant not in ("clips", "worlds"):
        raise UserError(f"experiments/vae_small.py:{variant}: expected clips or worlds")
    grid = (4, 8, 8)
    policy = SizePolicy(fps=8.0, max_frames=17, grid=grid, max_tokens=800)  # 17 frames of 128x80
    worlds = WorldsConfig(count=32, sizes=((80, 128), (128, 80), (96, 96)), frames=(17,), solids=(2, 3))
    experiment = c.ExperimentConfig(
        model="vae",
        data=DataConfig(source="worlds", worlds=worlds, held_out_count=8, shards=2)
        if variant == "worlds"
        else DataConfig(source="files", inputs="clips", held_out_share=0.25),
        vae=VAEConfig(latent_channels=16, fold=grid, stages=(Stage(width=256, blocks=2),), decoder_blocks=2),
        vae_training=c.VAETrainingConfig(
            stages=(VAEStage(policy=policy, batch=1, max_buckets=4, augment=AugmentConfig(scale=2.0, flip=0.5, shift=True)),),
            datasets=("runs/vae_small_worlds/dataset",),
            loss=VAELossConfig(l1=0.05, l2=1.0, gradient=0.1, kl=1e-7),
            cache_mb=1000,
        ),
        latents=c.LatentsConfig(policy=policy),
        optimizer=c.OptimizerConfig(name="muon", learning_rate=3e-3, warmup=30, weight_decay=1e-4),
        train=c.TrainConfig(steps=2700, log_every=30, save_every=450, sample_every=900),
        evaluate=c.EvaluateConfig(reconstructions=64),
    )
    config = ml_collections.ConfigDict(to_dict(experiment))
    config.dit.patch = (1, 1, 1)
    return config

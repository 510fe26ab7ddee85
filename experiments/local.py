"""The main job: the whole path from videos to samples on a laptop's CPU, on the built-in worlds.

Variants: `vae` trains the autoencoder, `dit` the transformer on its latents; `launch/local.sh` runs both and what lies between.
"""

import ml_collections

from videodit.core.config import to_dict
from videodit.training import config as c
from videodit.data.pipeline import PackingConfig
from videodit.data.prepare import DataConfig
from videodit.data.sizes import SizePolicy
from videodit.data.worlds import WorldsConfig
from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.models.vae.model import Stage, VAEConfig

SIZES = ((32, 48), (48, 32), (40, 40))  # (height, width): landscape, portrait, square


def get_config(variant: str = "dit") -> ml_collections.ConfigDict:
    """The experiment for `variant`, "vae" or "dit"; both share the data and both models."""
    worlds = WorldsConfig(
        seed=1, count=4096, sizes=SIZES, frames=(1, 9, 17), shapes=("ball", "cube", "cone", "cylinder"), sizes_of_solids=("big",),
        motions=("slides", "rolls", "bounces", "stays still"), camera_odds=0.0)
    grid = (8, 8, 8)
    experiment = c.ExperimentConfig(
        model=variant,
        data=DataConfig(worlds=worlds, held_out_count=256, shards=16),
        vae=VAEConfig(
            latent_channels=16, fold=4, decoder_blocks=1,
            stages=(Stage(width=48, blocks=0, stride=(2, 2, 2)), Stage(width=128, stride=(2, 1, 1)), Stage(width=128, stride=(2, 1, 1), blocks=0), Stage(width=128))),
        vae_training=c.VAETrainingConfig(policy=SizePolicy(max_frames=9, grid=grid, max_tokens=128), batch=16, max_buckets=3, loss=VAELossConfig(kl=1e-4)),
        latents=c.LatentsConfig(policy=SizePolicy(max_frames=17, grid=grid, max_tokens=96)),
        dit=DiTConfig(width=128, depth=6, heads=4, unroll=6),
        packing=PackingConfig(length=160, rows=24, bins=96, max_text_tokens=32, caption_odds={"original": 1.0}),
        process=ProcessConfig(),
        sample=c.SampleConfig(sizes=SIZES, frames=(9, 9, 9, 17), count=8),
    )
    if variant == "vae":
        optimizer, train = c.OptimizerConfig(learning_rate=2e-3, warmup=20, weight_decay=1e-4), c.TrainConfig(steps=300, log_every=10, save_every=60, sample_every=150)
    else:
        optimizer, train = c.OptimizerConfig(learning_rate=2e-3, warmup=40), c.TrainConfig(steps=700, log_every=10, save_every=100, sample_every=200)
    config = ml_collections.ConfigDict(to_dict(experiment))
    config.optimizer, config.train = to_dict(optimizer), to_dict(train)
    return config

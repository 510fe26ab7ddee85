"""The whole path from videos to samples at the smallest size that still has all of its parts: for tests, seconds each stage.

Variants `vae` and `dit`, as in experiments/local.py. It learns nothing; 24 clips of three shapes, stills among them.
"""

import ml_collections

from videodit.core.config import to_dict
from videodit.data.order import PackingConfig
from videodit.data.pipeline import VAEStage
from videodit.data.prepare import DataConfig
from videodit.data.sizes import SizePolicy
from videodit.data.worlds import WorldsConfig
from videodit.diffusion.known import EVERY_TASK
from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.text.config import TextConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.models.vae.config import Stage, VAEConfig
from videodit.training import config as c

SIZES = ((16, 24), (24, 16), (16, 16))  # (height, width)
STEPS = {"vae": 8, "dit": 16}


def get_config(variant: str = "dit") -> ml_collections.ConfigDict:
    """The experiment for `variant`, "vae" or "dit"."""
    grid = (4, 8, 8)
    experiment = c.ExperimentConfig(
        model=variant,
        data=DataConfig(worlds=WorldsConfig(seed=3, count=24, sizes=SIZES, frames=(1, 5, 9), camera_odds=0.0), held_out_count=6, shards=3),
        vae=VAEConfig(latent_channels=6, fold=(2, 4, 4), decoder_blocks=0, stages=(Stage(width=8, stride=(2, 2, 2)),)),
        vae_training=c.VAETrainingConfig(stages=(VAEStage(policy=SizePolicy(max_frames=5, grid=grid), batch=4, max_buckets=2),)),
        latents=c.LatentsConfig(policy=SizePolicy(max_frames=9, grid=grid), batch=4, shard=4),
        text=TextConfig(refiner=TextRefinerConfig(depth=1, heads=2)),
        dit=DiTConfig(width=16, depth=2, heads=2),
        packing=PackingConfig(length=48, rows=4, bins=8, max_text_tokens=12),
        process=ProcessConfig(known=EVERY_TASK),
        optimizer=c.OptimizerConfig(warmup=2),
        train=c.TrainConfig(steps=STEPS[variant], log_every=2, save_every=4, sample_every=8),
        sample=c.SampleConfig(steps=2, sizes=SIZES, frames=(1, 9), count=3),
        evaluate=c.EvaluateConfig(reconstructions=4, prompts=4),
    )
    return ml_collections.ConfigDict(to_dict(experiment))

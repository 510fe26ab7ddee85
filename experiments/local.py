"""The main job: the whole path from videos to samples on a laptop's CPU, on the built-in worlds.

Variants: `vae` trains the autoencoder, `dit` the transformer on its latents; `launch/local.sh` runs both and what lies between. `vae_files`
and `dit_files` are the same on media files, `data.inputs`, as `launch/local.sh --data PLACE` has it.

On 2 CPU cores that multiply matrices at 292 GFLOP/s, shared with other work, the whole job takes 21 minutes and 2 GiB: the VAE 8 minutes
to 30.8 dB on held-out clips, the transformer (3.2 M parameters) 9. Of 400 clips of 110 prompts, whose combinations of shape, colour,
motion and direction it never saw, about 80 % should be right in all that the judge looks at, 99 % each in colour, shape and direction
(experiments/benchmarks/results/recipe.md says what brought it there). Half of its clips are given in part, for the tasks of
`videodit sample --task`.
"""

from dataclasses import replace

import ml_collections

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.data.augmentation import AugmentConfig
from videodit.data.order import PackingConfig, packing_for
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
from videodit.models.vae.losses import VAELossConfig
from videodit.training import config as c

SIZES = ((32, 48), (48, 32), (40, 40), (40, 64), (64, 40))  # (height, width): landscape, portrait, square, and larger ones
FPS = 12.0  # a hop of 0.6 seconds so takes 7 frames; at 8 it took 5, and a VAE whose latents cover 4 flattened it
FILES = "_files"  # the end of a variant that is on media files
CAPTION = 128  # tokens, about 100 words: where a caption of somebody's own clips is cut


def get_config(variant: str = "dit") -> ml_collections.ConfigDict:
    """The experiment for `variant`, "vae" or "dit", or one of them with `FILES`; all share both models."""
    model = variant.removesuffix(FILES)
    if model not in ("vae", "dit"):
        raise UserError(f"experiments/local.py:{variant}: expected vae or dit, or vae{FILES} or dit{FILES}, on media files")
    worlds = WorldsConfig(
        seed=1,
        count=4096,
        sizes=SIZES,
        frames=(1, 9, 17),
        fps=FPS,
        shapes=("ball", "cube", "cone", "cylinder"),
        sizes_of_solids=("big",),
        motions=("slides", "rolls", "bounces", "stays still"),
        camera_odds=0.0,
        held_out_share=0.35,  # 110 of 320 combinations; every shape, colour and way to move is left in training
    )
    grid = (4, 8, 8)
    experiment = c.ExperimentConfig(
        model=model,
        data=DataConfig(worlds=worlds, held_out_count=256, shards=16),
        vae=VAEConfig(latent_channels=16, fold=grid, stages=(Stage(width=256, blocks=2),), decoder_blocks=2, whitening=0.0),
        vae_training=c.VAETrainingConfig(
            stages=(VAEStage(policy=SizePolicy(fps=FPS, max_frames=17, grid=grid, max_tokens=200), batch=5, max_buckets=4, images=0.25),),
            loss=VAELossConfig(l1=0.05, l2=1.0, gradient=0.1, kl=1e-7),
        ),
        latents=c.LatentsConfig(policy=SizePolicy(fps=FPS, max_frames=17, grid=grid, max_tokens=200)),
        text=TextConfig(refiner=TextRefinerConfig(depth=1, heads=3)),
        dit=DiTConfig(width=192, depth=4, heads=3, unroll=4),
        packing=PackingConfig(length=464, rows=6, bins=48, max_text_tokens=32, caption_odds={"original": 1.0}),
        process=ProcessConfig(known=EVERY_TASK),
        sample=c.SampleConfig(solver="dpm++", steps=16, fps=FPS, sizes=SIZES, frames=(9, 9, 9, 17), count=8),
        evaluate=c.EvaluateConfig(prompts=400),
    )
    if variant != model:
        experiment = on_files(experiment)
    if model == "vae":
        optimizer, train = (
            c.OptimizerConfig(name="muon", learning_rate=5e-3, warmup=50, weight_decay=1e-4),
            c.TrainConfig(steps=1000, log_every=20, save_every=250, sample_every=500),
        )
    else:
        optimizer, train = (
            c.OptimizerConfig(name="muon", learning_rate=8e-3, adam_factor=0.25, warmup=60),
            c.TrainConfig(steps=1500, log_every=20, save_every=250, sample_every=500),
        )
    config = ml_collections.ConfigDict(to_dict(experiment))
    config.optimizer, config.train = to_dict(optimizer), to_dict(train)
    return config


def on_files(experiment: c.ExperimentConfig) -> c.ExperimentConfig:
    """The experiment on media files: few clips of other sizes with longer captions than the worlds', at about as many tokens a step."""
    settings, packing = experiment.vae_training, experiment.packing
    stages = tuple(replace(stage, augment=AugmentConfig(scale=2.0, flip=0.5, shift=True)) for stage in settings.stages)
    return replace(
        experiment,
        data=DataConfig(source="files", inputs="clips"),
        vae_training=replace(settings, stages=stages),
        packing=packing_for(experiment.latents.policy.max_tokens, CAPTION, packing.rows * packing.length),
    )

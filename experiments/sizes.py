"""The transformer at every size, on latents of the 4x8x8 VAE: what it costs, to be looked at and compiled, not a training recipe.

Rows of 32,768 tokens from 1 B on, 4,096 below. None of these has been trained at full length; the rule behind them and its
learning rate are in `videodit/models/dit/sizes.py`.

    videodit inspect --config=experiments/sizes.py:8b
"""

import ml_collections

from videodit.core.config import to_dict
from videodit.data.order import PackingConfig
from videodit.data.sizes import SizePolicy
from videodit.models.dit.sizes import BASE_WIDTH, dit_config
from videodit.models.text.config import TextConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.models.vae.wan import wan_config
from videodit.training import config as c


def get_config(size: str = "1b") -> ml_collections.ConfigDict:
    """The experiment of a size: 2m, 16m, 125m, 1b, 3b, 8b or 30b."""
    dit = dit_config(size)
    experiment = c.ExperimentConfig(
        model="dit",
        vae=wan_config("2.1"),
        latents=c.LatentsConfig(policy=SizePolicy(grid=tuple(a * b for a, b in zip((4, 8, 8), dit.patch)))),
        text=TextConfig(refiner=TextRefinerConfig(heads=dit.heads, dtype=dit.dtype)),
        dit=dit,
        packing=PackingConfig(length=32768 if dit.width >= 2048 else 4096, rows=8),
        optimizer=c.OptimizerConfig(learning_rate=2e-3, base_width=BASE_WIDTH, b2=0.95, weight_decay=0.1, ema_decay=0.9999),
    )
    return ml_collections.ConfigDict(to_dict(experiment))

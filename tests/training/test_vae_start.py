"""A new VAE is a codec, and training makes it better from the first steps on: the main job's optimizer and losses never undo the start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.local import get_config
from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.models.vae.config import Stage, VAEConfig
from videodit.training.config import OptimizerConfig, read_experiment
from videodit.training.models import VAEModel, to_float_pixels
from videodit.training.state import init_state, make_optimizer, make_step

STEPS = 30
CONFIG = read_experiment(get_config("vae"))
MODEL = VAEModel(
    config=VAEConfig(latent_channels=8, fold=(4, 8, 8), stages=(Stage(width=32),)), loss_config=CONFIG.vae_training.loss
)


@pytest.fixture(scope="module")
def clips():
    source = WorldsSource(WorldsConfig(count=48, sizes=((32, 32),), frames=(9,)))
    return np.stack([source[i]["frames"] for i in range(48)])


def psnr_on_the_way(clips, optimizer: OptimizerConfig) -> list[float]:
    """PSNR in dB of the averaged weights on clips that are not trained on: at the start, and after every third step."""
    rule = make_optimizer(optimizer, 1000, MODEL)  # the first steps of many
    state = jax.jit(lambda: init_state(MODEL, rule, 0))()
    step = jax.jit(make_step(MODEL, rule, optimizer.ema_decay, 0), static_argnums=2)
    apply = lambda params, x, way: MODEL.module.apply({"params": params}, x, method=way)
    rebuild = jax.jit(lambda params, x: apply(params, apply(params, x, "encode")[0], "decode"))
    held, random, found = to_float_pixels(jnp.asarray(clips[40:])), np.random.default_rng(0), []
    for number in range(STEPS + 1):
        if number % 3 == 0:
            found.append(float(-10 * jnp.log10(jnp.square(rebuild(state["ema"], held) - held).mean() / 4)))
        state, _ = step(state, {"pixels": jnp.asarray(clips[random.integers(40, size=8)])}, False)
    return found


def test_training_never_falls_below_the_codec_that_it_starts_from(clips):
    found = psnr_on_the_way(clips, CONFIG.optimizer)
    assert min(found) >= found[0] - 0.01
    assert found[-1] > found[0] + 0.2


def test_a_rate_without_warm_up_would(clips):
    found = psnr_on_the_way(clips, OptimizerConfig(learning_rate=2e-2, warmup=0))
    assert min(found) < found[0] - 1

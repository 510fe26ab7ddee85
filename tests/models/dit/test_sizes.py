"""Sizes keep to one rule: as many parameters as their names say, heads that meshes divide, and one rate that serves all widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.interchange import parameter_shapes
from videodit.models.dit.model import DiT, DiTConfig
from videodit.models.dit.sizes import WIDTHS, dit_config
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.training.config import OptimizerConfig
from videodit.training.models import DiTModel
from videodit.training.state import init_state, make_optimizer, make_step

NAMED = {"2m": 2e6, "16m": 16e6, "125m": 125e6, "1b": 1e9, "3b": 3e9, "8b": 8e9, "30b": 30e9}


@pytest.mark.parametrize("size", WIDTHS)
def test_a_size_has_about_the_parameters_of_its_name(size):
    config = dit_config(size)
    shapes = parameter_shapes(DiT(config, 64, TextEmbedderConfig(vocabulary=256)))
    count = sum(leaf.size for name, part in shapes.items() if name != "text_embed" for leaf in jax.tree.leaves(part))
    assert 0.85 < count / NAMED[size] < 1.25
    if config.width >= 2048:
        assert config.heads % 8 == 0 and config.width // config.heads == 128


def test_other_fields_can_be_given_and_unknown_sizes_are_named():
    assert dit_config("1b", remat="full").remat == "full"
    with pytest.raises(UserError, match="size '2b': expected one of 2m, 16m"):
        dit_config("2b")


def test_with_a_base_width_steps_move_outputs_alike_at_every_width():
    """The coordinate check of "Tensor Programs V" (2022), appendix D.1: what a few steps change in the outputs does not grow with width."""

    def moved(width, base_width):
        text = TextEmbedderConfig(ids=2, vocabulary=8, refiner=TextRefinerConfig(depth=1, heads=2))
        model = DiTModel(config=DiTConfig(width=width, depth=2, heads=2), process=ProcessConfig(), latent_channels=4, text=text)
        random = np.random.default_rng(0)
        words = np.array([[3, 4], [1, 0]], np.int32)
        samples = [tokens_of(random.normal(size=(2, 3, 4, 4)).astype(np.float32), [words], (1, 1, 1), i) for i in range(4)]
        batch = {name: jnp.asarray(value) for name, value in concatenate_rows([samples[:2], samples[2:]], 64).items()}
        optimizer = make_optimizer(OptimizerConfig(learning_rate=0.02, warmup=1, weight_decay=0.0, base_width=base_width), 100, model)
        step, state = jax.jit(make_step(model, optimizer, 0.9, 0)), jax.jit(lambda: init_state(model, optimizer, 0))()
        for _ in range(4):
            state, _ = step(state, batch)
        out = jax.jit(model.module.apply)({"params": state["params"]}, batch["patches"], 0.5 * (batch["segment_ids"] > 0), batch)
        return float(jnp.sqrt(jnp.mean(jnp.square(out))))

    narrow, wide, unscaled = moved(32, 32), moved(256, 32), moved(256, 0)
    assert 0.5 < wide / narrow < 2.0
    assert unscaled > 2 * wide

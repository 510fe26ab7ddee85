"""Muon makes a matrix's singular values equal, each layer and kernel for itself, and leaves first and last layers to AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.sharding.rules import path_name
from videodit.training.config import OptimizerConfig
from videodit.training.models import VAEModel
from videodit.training.muon import orthogonalised, scale_by_muon
from videodit.training.state import make_optimizer


@pytest.mark.parametrize("shape", [(24, 24), (24, 200), (200, 24), (3, 24, 40)], ids=str)
def test_directions_are_kept_and_singular_values_made_equal(shape):
    left, values, right = np.linalg.svd(np.random.default_rng(0).normal(size=shape).astype(np.float32), full_matrices=False)
    matrix = (left * np.geomspace(0.05, 1.0, values.shape[-1], dtype=np.float32)[..., None, :]) @ right
    made = np.asarray(orthogonalised(matrix))
    values = np.einsum("...mi,...mn,...in->...i", left, made, right)
    rest = made - np.einsum("...mi,...i,...in->...mn", left, values, right)
    assert values.min() > 0.6 and values.max() < 1.25
    assert np.abs(rest).max() < 2e-3


def test_a_gradient_of_zeros_changes_nothing():
    assert (orthogonalised(jnp.zeros((4, 8))) == 0).all()


def test_it_is_what_optax_computes_on_the_wide_matrix():
    gradient = {"kernel": jax.random.normal(jax.random.key(0), (16, 80))}
    ours = scale_by_muon(lambda path: (0, 1))
    numbers = {"kernel": optax.contrib.MuonDimensionNumbers()}
    theirs = optax.contrib.scale_by_muon(beta=0.95, nesterov=True, weight_dimension_numbers=numbers)
    states = ours.init(gradient), theirs.init(gradient)
    for _ in range(3):
        (made, first), (wanted, second) = ours.update(gradient, states[0]), theirs.update(gradient, states[1])
        states = first, second
    cosine = float((made["kernel"] * wanted["kernel"]).sum() / (jnp.linalg.norm(made["kernel"]) * jnp.linalg.norm(wanted["kernel"])))
    assert cosine > 0.999
    assert float(jnp.sqrt(jnp.square(made["kernel"]).mean())) == pytest.approx(0.2, rel=0.15)  # as AdamW's


def test_layers_are_matrices_of_their_own():
    """Changing one layer's gradient changes that layer's update alone."""
    gradient = jax.random.normal(jax.random.key(0), (3, 8, 2, 5))
    rule = scale_by_muon(lambda path: (1, 1))
    update = lambda gradient: rule.update({"kernel": gradient}, rule.init({"kernel": gradient}))[0]["kernel"]
    changed = update(gradient.at[1].multiply(jnp.arange(5.0)))
    before = update(gradient)
    assert before.shape == gradient.shape
    np.testing.assert_allclose(changed[::2], before[::2], atol=1e-6)
    assert np.abs(changed[1] - before[1]).max() > 0.01


def moved(model, optimizer):
    """{path: whether Muon moved it} after a step on gradients of rank one: AdamW's updates of these have one height, Muon's have not."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    ramp = lambda leaf: jnp.linspace(1.0, 2.0, leaf.size).reshape(leaf.shape)
    updates, _ = optimizer.update(jax.tree.map(ramp, params), optimizer.init(params), params)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        heights = np.abs(np.asarray(leaf))
        found[path_name(path)] = bool(heights.size > 1 and heights.max() > 1.01 * heights.min())
    return found


def test_what_lies_between_first_and_last_layer_learns_by_it():
    config = OptimizerConfig(name="muon", warmup=0, weight_decay=0.0)
    vae = VAEModel(config=VAEConfig(latent_channels=3, fold=(2, 4, 4), stages=(Stage(width=4),)), loss_config=VAELossConfig())
    found = moved(vae, make_optimizer(config, 10, vae))
    by_muon = {name for name, muon in found.items() if muon}
    blocks = ("encoder/stage0_block0", "decoder/stage0_block0", "decoder/stage0_block1")
    assert by_muon == {f"{block}/{conv}/kernel" for block in blocks for conv in ("conv", "out")}


def test_its_rate_is_for_no_other_width():
    with pytest.raises(UserError, match="optimizer.base_width is 192 with optimizer.name='muon', expected 0"):
        OptimizerConfig(name="muon", base_width=192)

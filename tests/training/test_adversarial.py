"""The VAE against its discriminator: gradients are those of the loss, nothing moves before the start, and a resume is bit-identical."""

import dataclasses
import json

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
import numpy as np
import optax
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.discriminator import AdversarialConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.sharding.mesh import AXES
from videodit.sharding.rules import path_name, tree_shardings
from videodit.training import checkpoint_contents, loop
from videodit.training.adversarial import LAST_KERNEL, AdversarialVAE
from videodit.training.config import OptimizerConfig
from videodit.training.jobs import make_job
from videodit.training.models import VAEModel
from videodit.training.state import init_state, make_optimizer, make_step, plays

SHAPE = VAEConfig(latent_channels=4, fold=(1, 4, 4), stages=(Stage(width=4),))
BATCH = {"pixels": np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), np.uint8)}


def make(kind=AdversarialVAE, **adversarial):
    game = AdversarialConfig(**{"weight": 0.5, "width": 4, "layers": 2, "start": 2, "learning_rate": 1e-2} | adversarial)
    return kind(config=SHAPE, loss_config=VAELossConfig(kl=1e-3, adversarial=game))


def run(model, steps):
    optimizer = make_optimizer(OptimizerConfig(warmup=1), 10)
    step = jax.jit(make_step(model, optimizer, 0.9, 0), static_argnums=2)
    states, told = [jax.jit(lambda: init_state(model, optimizer, 0))()], []
    for number in range(steps):
        state, metrics = step(states[-1], BATCH, plays(model, number))
        states.append(state)
        told.append(metrics)
    return states, told


def differ(a, b):
    return any((np.asarray(x) != np.asarray(y)).any() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def played():
    return run(make(), 4)


def test_before_its_start_the_discriminator_stands_still_and_the_vae_learns_as_without_one(played):
    states, told = played
    alone, alone_told = run(make(VAEModel), 3)
    assert not differ(states[0]["discriminator"], states[2]["discriminator"])
    for name in ("params", "ema", "opt_state", "statistics"):
        assert not differ(states[2][name], alone[2][name])
    assert told[1].keys() == alone_told[1].keys() and float(told[1]["loss"]) == float(alone_told[1]["loss"])
    assert differ(states[3]["params"], alone[3]["params"])


def test_from_its_start_on_both_learn(played):
    states, told = played
    for before, after in zip(states[2:], states[3:]):
        assert differ(before["discriminator"]["params"], after["discriminator"]["params"])
        assert differ(before["discriminator"]["opt_state"], after["discriminator"]["opt_state"])
    assert float(told[2]["adversarial_weight"]) > 0 and float(told[2]["discriminator_grad_norm"]) > 0


@pytest.mark.parametrize("adaptive", [True, False])
def test_gradients_are_those_of_the_loss_that_is_told(adaptive):
    model = make(adaptive=adaptive, start=0)
    optimizer, key = make_optimizer(OptimizerConfig(), 10), jax.random.key(3)
    state = jax.jit(lambda: init_state(model, optimizer, 0))()
    (loss, (metrics, _)), gradients, discriminator = jax.jit(model.gradients)(state, BATCH, key)

    def parts(params):
        plain, _ = VAEModel.loss(model, params, BATCH, key)
        made, *_ = model.module.apply({"params": params}, jnp.asarray(BATCH["pixels"]) / 127.5 - 1.0, key)
        return plain, -model.discriminator.apply({"params": state["discriminator"]["params"]}, made).mean()

    plain, game = jax.jit(parts)(state["params"])
    of_plain, of_game = jax.jit(jax.jacrev(parts))(state["params"])
    weight = 0.5
    if adaptive:  # the KL does not reach the decoder
        last = lambda tree: float(jnp.linalg.norm(tree[LAST_KERNEL[0]][LAST_KERNEL[1]][LAST_KERNEL[2]].ravel()))
        weight *= last(of_plain) / last(of_game)
    np.testing.assert_allclose(metrics["adversarial_weight"], weight, rtol=1e-3)
    np.testing.assert_allclose(loss, plain + weight * game, rtol=1e-4)
    for (path, x), a, b in zip(jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(of_plain), jax.tree.leaves(of_game)):
        np.testing.assert_allclose(x, a + weight * b, rtol=2e-3, atol=1e-6, err_msg=path_name(path))

    def own(params):
        judge = lambda video: model.discriminator.apply({"params": params}, video)
        pixels = jnp.asarray(BATCH["pixels"]) / 127.5 - 1.0
        made = model.module.apply({"params": state["params"]}, pixels, key)[0]
        return 0.5 * (jax.nn.relu(1.0 - judge(pixels)).mean() + jax.nn.relu(1.0 + judge(made)).mean())

    params = state["discriminator"]["params"]
    value, by_own = jax.jit(jax.value_and_grad(own))(params)
    np.testing.assert_allclose(metrics["discriminator_loss"], value, rtol=1e-4)
    adam = optax.adam(1e-2, b1=0.5, b2=0.9)
    updates, _ = adam.update(by_own, adam.init(params), params)
    for x, y in zip(jax.tree.leaves(discriminator["params"]), jax.tree.leaves(optax.apply_updates(params, updates)), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-3)


def test_a_discriminator_that_learns_tells_real_from_made():
    _, told = run(make(start=0, weight=1e-6), 10)  # of so little weight, the VAE hardly answers
    assert float(told[-1]["discriminator_loss"]) < 0.7 * float(told[0]["discriminator_loss"])


def test_a_vae_without_a_discriminator_has_the_state_it_had():
    shapes = jax.eval_shape(lambda: init_state(make(VAEModel, weight=0.0), make_optimizer(OptimizerConfig(), 10), 0))
    assert shapes.keys() == {"params", "opt_state", "ema", "step", "statistics", "guard"}


def test_the_discriminator_and_its_moments_lie_on_a_mesh_as_its_kernels_do():
    mesh = AbstractMesh((1, 2, 1, 1), AXES)
    shapes = jax.eval_shape(lambda: init_state(make(), make_optimizer(OptimizerConfig(), 10), 0))
    found = tree_shardings(shapes, AdversarialVAE.axes, mesh)["discriminator"]
    split = {path_name(path) for path, each in jax.tree_util.tree_leaves_with_path(found["params"]) if "fsdp" in str(each.spec)}
    assert split == {"conv1/kernel", "conv_middle/kernel", "conv_out/kernel"}  # the first sees 3 colours, which 2 do not divide
    assert found["opt_state"][0].mu == found["opt_state"][0].nu == found["params"]


GAME = {"weight": 0.3, "start": 3, "width": 4, "layers": 2, "learning_rate": 1e-3}
STAGES = [
    {"step": 0, "policy": {"max_frames": 1}, "batch": 2, "max_buckets": 1, "images": 1.0},
    {"step": 3, "policy": {"max_frames": 5}, "batch": 2, "max_buckets": 1, "images": 0.5},
]


class Killed(BaseException):
    """Stands for a kill."""


class Interrupted:
    """An iterator that is killed when one batch more than `left` is asked for."""

    def __init__(self, iterator, left):
        self.iterator, self.left, self.get_state, self.set_state = iterator, left, iterator.get_state, iterator.set_state

    def __next__(self):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return next(self.iterator)


def contents(workdir):
    newest = workdir / "checkpoints" / str(checkpoint_contents.finished_steps(workdir)[-1])
    return dict(checkpoint_contents.read(newest, checkpoint_contents.leaves(newest))), checkpoint_contents.data_position(newest)


def test_a_killed_game_that_goes_on_ends_as_an_unbroken_one_across_stages(tiny, tiny_dataset, tmp_path, monkeypatch):
    config = tiny(
        "vae",
        data={"path": str(tiny_dataset / "dataset")},
        vae_training={"stages": STAGES, "loss": {"adversarial": GAME}},
        train={"steps": 7, "save_every": 2, "log_every": 1, "sample_every": 7},
    )
    monkeypatch.setattr(loop, "matmul_flops_per_second", lambda: 1.0)

    def train(name, *kills):
        for after in (*kills, 10**9):

            def job(*arguments, after=after):
                made = make_job(*arguments)
                return dataclasses.replace(made, batches=Interrupted(made.batches, after), pictures=lambda state, to: None)

            monkeypatch.setattr(loop, "make_job", job)
            try:
                loop.train(config, tmp_path / name)
            except Killed:
                pass
        told = {}
        for line in (tmp_path / name / "metrics" / "metrics.jsonl").read_text().splitlines():
            told[json.loads(line)["step"]] = json.loads(line)
        return contents(tmp_path / name), told

    (whole, position), told = train("whole")
    (arrays, found), told_again = train("killed", 3, 3)  # goes on from step 2, of the first stage, and 4, of the second with its game
    assert found == position and arrays.keys() == whole.keys()
    assert {name.split("/")[1] for name in arrays if name.startswith("discriminator/")} == {"params", "opt_state"}
    for name, array in whole.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    names = ("loss", "discriminator_loss", "adversarial_weight", "psnr_db")
    assert [[told_again[step].get(name) for name in names] for step in told] == [[told[step].get(name) for name in names] for step in told]
    assert [step for step in sorted(told) if "adversarial_weight" in told[step]] == [4, 5, 6, 7]
    assert "LPIPS is off: vae_training.loss.perceptual.network" in (tmp_path / "whole" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"loss": {"adversarial": GAME | {"start": 8}}}, r"adversarial.start is 8, expected a step before the last, train.steps=8"),
        (
            {"loss": {"perceptual": {"network": "a.safetensors"}}},
            r"LPIPS has network='a.safetensors' and heads='': expected the paths",
        ),
        ({"stages": [STAGES[0], STAGES[1] | {"step": 8}]}, r"stages\[1\].step is 8, expected a step before the last, train.steps=8"),
        ({"stages": STAGES[1:]}, r"stages begin at steps \[3\], expected 0 and then more"),
        ({"stages": []}, r"stages begin at steps \[\], expected 0"),
        (
            {"stages": [STAGES[0] | {"policy": {"grid": [4, 16, 16]}}]},
            r"stages\[0\].policy.grid is \(4, 16, 16\), expected the VAE's",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(tiny, wrong, match):
    with pytest.raises(UserError, match=match):
        tiny("vae", vae_training=wrong)


def test_weights_of_lpips_that_are_missing_are_named(tiny, tiny_dataset, tmp_path):
    perceptual = {"network": str(tmp_path / "vgg16.safetensors"), "heads": str(tmp_path / "vgg.safetensors")}
    config = tiny("vae", data={"path": str(tiny_dataset / "dataset")}, vae_training={"loss": {"perceptual": perceptual}})
    with pytest.raises(UserError, match="vgg16.safetensors' is no file; expected a safetensors file with torchvision's"):
        make_job(config, tmp_path)

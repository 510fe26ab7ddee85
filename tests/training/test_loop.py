"""The loop: N steps equal k steps, a kill, a restore and N - k steps, bit for bit; it stops on NaN and never repeats what is done."""

import dataclasses
import json
import pathlib

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.config import read_config, to_dict
from videodit.core.errors import UserError
from videodit.models.vae.wan import load_wan
from videodit.training import checkpoint_contents, loop
from videodit.training.checkpoints import Checkpoints, restore_weights
from videodit.training.jobs import Job, make_job


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


class Interrupted:
    """An iterator that is killed when its batch number `count` is asked for, counted from where it starts."""

    def __init__(self, iterator, count):
        self.iterator, self.left = iterator, count

    def __next__(self):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return next(self.iterator)

    def get_state(self):
        return self.iterator.get_state()

    def set_state(self, state):
        self.iterator.set_state(state)


class Toy:
    """Fits a vector to batches of noise. Its loss can be made NaN, or only its gradient."""

    axes = {}

    def __init__(self, nan_loss_at=0.0, nan_gradient_at=0.0):
        self.nan_loss_at, self.nan_gradient_at = nan_loss_at, nan_gradient_at

    def init(self, key):
        return {"kernel": jax.random.normal(key, (4,))}

    def statistics(self):
        return {"mean": jnp.zeros(())}

    def loss(self, params, batch, key):
        number = batch["number"]
        error = jnp.square(params["kernel"] - batch["x"] - 0.1 * jax.random.normal(key, (4,))).mean()
        error += jnp.where(number == self.nan_loss_at, jnp.nan, 0.0)
        # The root of zero has an infinite slope: the loss is finite and its gradient is not.
        error += jnp.sqrt(jnp.where(number == self.nan_gradient_at, 0.0, 1.0) * (1.0 + jnp.square(params["kernel"]).sum()))
        return error, ({}, {"mean": batch["x"].mean()})


def toy_job(model=None, pictures=lambda state, to: None, killed_after=10**9):
    batches = iter(
        grain.MapDataset.range(1, 1000)
        .map(lambda n: {"number": np.float32(n), "x": np.random.default_rng(n).normal(size=4).astype(np.float32)})
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    )
    return Job(
        model=model or Toy(),
        batches=Interrupted(batches, killed_after),
        unit="tokens",
        work=lambda batch: {"tokens": 3.0, "slots": 4.0, "flops": 5.0},
        device_features=("number", "x"),
        pictures=pictures,
    )


@pytest.fixture
def toy(tiny, monkeypatch):
    """`toy(workdir, job arguments, **train)` trains the toy; it ends as `train` does."""
    monkeypatch.setattr(loop, "matmul_flops_per_second", lambda: 1.0)

    def train(workdir, job=None, **settings):
        monkeypatch.setattr(loop, "make_job", lambda config, workdir: toy_job(**(job or {})))
        loop.train(tiny(train={"steps": 12, "log_every": 2, "save_every": 4, "sample_every": 6} | settings), workdir)

    return train


def contents(workdir):
    """Every array of the newest checkpoint, and the data position."""
    newest = workdir / "checkpoints" / str(checkpoint_contents.finished_steps(workdir)[-1])
    return dict(checkpoint_contents.read(newest, checkpoint_contents.leaves(newest))), checkpoint_contents.data_position(newest)


def assert_equal(found, wanted):
    assert found[1] == wanted[1]
    assert found[0].keys() == wanted[0].keys()
    for name, array in wanted[0].items():
        np.testing.assert_array_equal(found[0][name], array, err_msg=name)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kills", [(1,), (4,), (5,), (11,), (12,), (2, 6, 3)])
def test_a_killed_run_that_goes_on_ends_as_an_unbroken_one(toy, tmp_path, kills):
    toy(tmp_path / "whole")
    for after in kills:
        try:
            toy(tmp_path / "killed", {"killed_after": after})
        except Killed:
            pass
    toy(tmp_path / "killed")
    assert_equal(contents(tmp_path / "killed"), contents(tmp_path / "whole"))
    last = {line["step"]: line["loss"] for line in lines(tmp_path / "killed")}
    assert last == {line["step"]: line["loss"] for line in lines(tmp_path / "whole")}


@pytest.mark.parametrize("variant", ["vae", "dit"])
def test_both_models_go_on_bit_for_bit(tiny, tiny_job, tmp_path, monkeypatch, variant):
    whole = tiny_job / "vae" if variant == "vae" else tiny_job
    config = tiny(
        variant, data={"path": str(tiny_job / "dataset")}, latents={"path": str(tiny_job / "latents"), "vae": str(tiny_job / "vae")}
    )
    for after in (6, 10**9):  # past the checkpoint of step 4, before that of step 8

        def job(*arguments, after=after):
            made = make_job(*arguments)
            return dataclasses.replace(made, batches=Interrupted(made.batches, after), pictures=lambda state, to: None)

        monkeypatch.setattr(loop, "make_job", job)
        try:
            loop.train(config, tmp_path)
        except Killed:
            assert checkpoint_contents.finished_steps(tmp_path) == [4]
    assert_equal(contents(tmp_path), contents(whole))
    arrays, position = contents(tmp_path)
    assert position and {name.split("/")[0] for name in arrays} >= {"params", "opt_state", "ema", "step"}
    assert ("statistics/mean" in arrays) == (variant == "vae")


def test_a_finished_run_is_left_alone(toy, tmp_path):
    drawn = []
    toy(tmp_path, {"pictures": lambda state, to: drawn.append(to.name)})
    before = contents(tmp_path), lines(tmp_path), list(drawn)
    toy(tmp_path, {"pictures": lambda state, to: drawn.append(to.name), "killed_after": 0})
    assert_equal(contents(tmp_path), before[0][0:2])
    assert (lines(tmp_path), drawn) == before[1:]


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(toy, tmp_path):
    toy(tmp_path, steps=12)
    toy(tmp_path, steps=14)
    assert checkpoint_contents.finished_steps(tmp_path) == [12, 14] and [line["step"] for line in lines(tmp_path)] == [
        2,
        4,
        6,
        8,
        10,
        12,
        14,
    ]


def test_pictures_are_drawn_at_the_start_and_at_their_steps(toy, tmp_path):
    drawn = []
    toy(tmp_path, {"pictures": lambda state, to: drawn.append((to.name, int(state["step"])))})
    assert drawn == [("0", 0), ("6", 6), ("12", 12)]


@pytest.mark.parametrize("step", [6, 12])
def test_no_picture_is_lost_to_a_kill(toy, tmp_path, step):
    def kill(state, to):
        if to.name == str(step):
            raise Killed

    with pytest.raises(Killed):
        toy(tmp_path, {"pictures": kill}, save_every=2)
    drawn = []
    toy(tmp_path, {"pictures": lambda state, to: drawn.append(to.name)}, save_every=2)
    assert str(step) in drawn


@pytest.mark.parametrize("broken", ["nan_loss_at", "nan_gradient_at"])
@pytest.mark.parametrize(("step", "newest"), [(1, None), (7, 4), (8, 4), (9, 8), (12, 8)])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run_and_is_never_saved(toy, tmp_path, broken, step, newest):
    with pytest.raises(loop.NotFinite, match=f"at step {step}"):
        toy(tmp_path, {"model": Toy(**{broken: step})})
    assert (checkpoint_contents.finished_steps(tmp_path) or [None])[-1] == newest
    if newest:
        arrays, _ = contents(tmp_path)
        assert all(np.isfinite(array).all() for array in arrays.values())
        toy(tmp_path)  # with the cause mended, it goes on
        assert checkpoint_contents.finished_steps(tmp_path)[-1] == 12


def test_metrics_hold_loss_rates_and_memory_at_every_log_point_and_the_last_step(toy, tmp_path):
    toy(tmp_path, steps=5)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]
    for line in lines(tmp_path):
        assert line.keys() >= {
            "time",
            "loss",
            "grad_norm",
            "tokens_per_second",
            "model_flops_per_second",
            "matmul_flops_per_second",
            "real_token_share",
            "step_seconds",
            "peak_memory_bytes",
        }
        assert line["real_token_share"] == 0.75 and line["model_flops_per_second"] / line["tokens_per_second"] == pytest.approx(5 / 3)
    assert "step 5 of 5 done" in (tmp_path / "log.txt").read_text()
    assert list((tmp_path / "metrics").glob("events.out.tfevents.*"))


def test_the_whole_config_is_written(toy, tmp_path, tiny):
    toy(tmp_path, steps=2)
    assert read_config(tmp_path)["packing"]["length"] == tiny().packing.length


def test_a_kill_between_two_saves_leaves_the_data_position_of_the_first(toy, tmp_path):
    with pytest.raises(Killed):
        toy(tmp_path, {"killed_after": 7})
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest == 4
    job = toy_job()
    job.batches.set_state(contents(tmp_path)[1])
    assert next(job.batches)["number"] == 5


WAN = pathlib.Path(__file__).parents[1] / "models" / "vae" / "golden" / "diffusers_2.1"


@pytest.fixture
def vae_job(tiny, tiny_dataset, monkeypatch):
    """`vae_job(workdir, start, killed_after)` trains the tiny VAE from `start`; it gives the states that pictures were drawn of."""

    def run(workdir, start, killed_after=10**9, **sections):
        seen = []

        def job(*arguments):
            made = make_job(*arguments)
            keep = lambda state, to: seen.append(jax.device_get(state))
            return dataclasses.replace(made, batches=Interrupted(made.batches, killed_after), pictures=keep)

        monkeypatch.setattr(loop, "make_job", job)
        settings = {"data": {"path": str(tiny_dataset / "dataset")}, "vae_training": {"start": str(start)}} | sections
        try:
            loop.train(tiny("vae", **settings), workdir)
        except Killed:
            pass
        return seen

    return run


def assert_same_tree(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_run_begins_with_public_weights_and_measures_its_own_statistics(vae_job, tmp_path):
    config, params, mean, _ = load_wan(WAN)
    (state,) = vae_job(tmp_path, WAN, killed_after=0, vae=to_dict(config))
    assert_same_tree(state["params"], params)
    assert_same_tree(state["ema"], params)
    np.testing.assert_array_equal(state["statistics"]["mean"], np.zeros_like(mean))
    np.testing.assert_array_equal(state["statistics"]["square"], np.ones_like(mean))
    assert state["step"] == 0 and not any(leaf.any() for leaf in jax.tree.leaves(state["opt_state"]))
    assert f"it began with the weights of {WAN}" in (tmp_path / "log.txt").read_text()


def test_a_run_begins_with_the_average_of_another_and_measures_its_own_statistics(vae_job, tiny_latents, tmp_path):
    weights, _ = restore_weights(tiny_latents / "vae")
    first, last = vae_job(tmp_path, tiny_latents / "vae", optimizer={"learning_rate": 0.0})
    for name in ("params", "ema"):
        assert_same_tree(first[name], weights["ema"])
        jax.tree.map(lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7), last[name], weights["ema"])
    assert not first["statistics"]["mean"].any() and last["statistics"]["mean"].any()
    assert (last["statistics"]["mean"] != weights["statistics"]["mean"]).all()


def test_a_killed_run_goes_on_from_its_checkpoint_and_not_from_its_start(vae_job, tiny_latents, tmp_path):
    vae_job(tmp_path / "whole", tiny_latents / "vae")
    vae_job(tmp_path / "killed", tiny_latents / "vae", killed_after=6)
    assert checkpoint_contents.finished_steps(tmp_path / "killed") == [4]
    vae_job(tmp_path / "killed", tmp_path / "gone")
    assert_equal(contents(tmp_path / "killed"), contents(tmp_path / "whole"))


def test_a_start_of_another_form_or_place_is_one_clear_line(vae_job, tmp_path):
    with pytest.raises(UserError, match=r"start=.*another form: its latent_channels is 4, and config vae has 6; its fold is \(1, 1, 1\), "):
        vae_job(tmp_path, WAN)
    with pytest.raises(UserError, match="gone.safetensors' does not exist"):
        vae_job(tmp_path, tmp_path / "gone.safetensors")
    with pytest.raises(UserError, match="is not a workdir"):
        vae_job(tmp_path, tmp_path / "gone")
    assert checkpoint_contents.finished_steps(tmp_path) == []

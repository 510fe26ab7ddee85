"""The loop: N steps equal k steps, a kill, a restore and N - k steps, bit for bit; it stops on NaN and never repeats what is done."""

import dataclasses
import json
import os
import pathlib
import signal
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.config import read_config, to_dict
from videodit.core.errors import RestartAsked, UserError
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
    """Fits a vector to batches of noise. Its loss can be made NaN in a batch or several, or only its gradient, or its gradient large."""

    axes = {}

    def __init__(self, nan_loss_at=0.0, nan_gradient_at=0.0, large_at=0.0):
        self.nan_loss_at, self.nan_gradient_at, self.large_at = np.atleast_1d(nan_loss_at), nan_gradient_at, np.atleast_1d(large_at)

    def init(self, key):
        return {"kernel": jax.random.normal(key, (4,))}

    def statistics(self):
        return {"mean": jnp.zeros(())}

    def loss(self, params, batch, key):
        number = batch["number"]
        error = jnp.square(params["kernel"] - batch["x"] - 0.1 * jax.random.normal(key, (4,))).mean()
        error *= jnp.where((number == self.large_at).any(), 1e6, 1.0)
        error += jnp.where((number == self.nan_loss_at).any(), jnp.nan, 0.0)
        # The root of zero has an infinite slope: the loss is finite and its gradient is not.
        error += jnp.sqrt(jnp.where(number == self.nan_gradient_at, 0.0, 1.0) * (1.0 + jnp.square(params["kernel"]).sum()))
        return error, ({}, {"mean": batch["x"].mean()})


def toy_job(model=None, pictures=lambda state, to: None, killed_after=10**9, order=0, start=None):
    """Batches are numbered from 1 on, and from 1000 times `order`, the roll-backs before it. `killed_after` may be by order."""
    batches = iter(
        grain.MapDataset.range(1, 1000)
        .map(lambda n: n + 1000 * order)
        .map(lambda n: {"number": np.float32(n), "x": np.random.default_rng(n).normal(size=4).astype(np.float32)})
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    )
    return Job(
        model=model or Toy(),
        batches=Interrupted(batches, killed_after.get(order, 10**9) if isinstance(killed_after, dict) else killed_after),
        unit="tokens",
        work=lambda batch: {"tokens": 3.0, "slots": 4.0, "flops": 5.0},
        device_features=("number", "x"),
        pictures=pictures,
        start=start,
    )


@pytest.fixture(scope="module")
def toy(tiny):
    """`toy(workdir, job arguments, **train)` trains the toy; it ends as `train` does."""

    def train(workdir, job=None, survival=None, start=None, optimizer=None, **settings):
        settings = {"steps": 12, "log_every": 2, "save_every": 4, "sample_every": 6} | settings
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "matmul_flops_per_second", lambda: 1.0)
            patch.setattr(loop, "make_job", lambda config, workdir: toy_job(order=config.train.seed // 10**6, **(job or {})))
            loop.train(tiny(train=settings, survival=survival or {}, start=start or {}, optimizer=optimizer or {}), workdir)

    return train


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The workdir of the toy's unbroken run."""
    workdir = tmp_path_factory.mktemp("whole")
    toy(workdir)
    return workdir


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


@pytest.mark.parametrize("kills", [(4,), (11,), (2, 6, 3)])
def test_a_killed_run_that_goes_on_ends_as_an_unbroken_one(toy, whole, tmp_path, kills):
    for after in kills:
        with pytest.raises(Killed):
            toy(tmp_path, {"killed_after": after})
    toy(tmp_path)
    assert_equal(contents(tmp_path), contents(whole))
    last = {line["step"]: line["loss"] for line in lines(tmp_path)}
    assert last == {line["step"]: line["loss"] for line in lines(whole)}


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


@pytest.mark.parametrize(
    ("broken", "step", "newest"), [("nan_loss_at", 1, None), ("nan_gradient_at", 8, 4), ("nan_loss_at", 9, 8), ("nan_loss_at", 12, 8)]
)
def test_where_no_step_may_be_skipped_one_that_is_no_number_stops_the_run_and_is_never_saved(toy, tmp_path, broken, step, newest):
    with pytest.raises(loop.NotFinite, match=f"at step {step}"):
        toy(tmp_path, {"model": Toy(**{broken: step})}, survival={"patience": 1, "rollbacks": 0})
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


def test_a_killed_run_goes_on_from_its_checkpoint_and_not_from_its_start(toy, tmp_path):
    start = {"start": lambda: {"kernel": np.ones(4, np.float32)}}
    toy(tmp_path / "whole", start)
    with pytest.raises(Killed):
        toy(tmp_path / "killed", start | {"killed_after": 6})
    toy(tmp_path / "killed", {"start": lambda: 1 / 0})
    assert_equal(contents(tmp_path / "killed"), contents(tmp_path / "whole"))


def test_a_start_of_another_form_or_place_is_one_clear_line(vae_job, tmp_path):
    with pytest.raises(UserError, match=r"start=.*another form: its latent_channels is 4, and config vae has 6; its fold is \(1, 1, 1\), "):
        vae_job(tmp_path, WAN)
    with pytest.raises(UserError, match="gone.safetensors' does not exist"):
        vae_job(tmp_path, tmp_path / "gone.safetensors")
    with pytest.raises(UserError, match="is not a workdir"):
        vae_job(tmp_path, tmp_path / "gone")
    assert checkpoint_contents.finished_steps(tmp_path) == []


def test_a_poisoned_batch_is_skipped_and_counted_and_the_run_goes_on(toy, whole, tmp_path):
    for name, model in (("poisoned", Toy(nan_loss_at=7.0)), ("gradient", Toy(nan_gradient_at=7.0))):
        toy(tmp_path / name, {"model": model})
    clean, poisoned = lines(whole), lines(tmp_path / "poisoned")
    assert [line["skipped_steps"] for line in poisoned] == [0, 0, 0, 1, 1, 1] and {line["skipped_steps"] for line in clean} == {0}
    assert [line["loss"] for line in poisoned][:3] == [line["loss"] for line in clean][:3]
    assert all(np.isfinite(line["loss"]) for line in poisoned)
    assert "skipped a step: the loss is nan at step 7" in (tmp_path / "poisoned" / "log.txt").read_text()
    assert "skipped a step: the gradient's norm is nan at step 7" in (tmp_path / "gradient" / "log.txt").read_text()
    assert_equal(contents(tmp_path / "poisoned"), contents(tmp_path / "gradient"))  # what was wrong with it leaves no trace
    assert poisoned[-1]["lost/skipped"] > 0


def test_a_skipped_step_leaves_weights_moments_and_average_as_they_were(toy, tmp_path):
    model = Toy(nan_loss_at=8.0)
    toy(tmp_path / "seven", {"model": model}, steps=7)
    toy(tmp_path / "eight", {"model": model}, steps=7)
    toy(tmp_path / "eight", {"model": model}, steps=8)
    (seven, _), (eight, position) = contents(tmp_path / "seven"), contents(tmp_path / "eight")
    changed = {name for name in seven if not np.array_equal(seven[name], eight[name])}
    assert changed == {"step", "guard/skipped", "guard/in_a_row"} and eight["step"] == 8 and position


def test_a_leap_of_the_gradients_norm_is_skipped_once_there_is_an_average(toy, tmp_path):
    toy(tmp_path, {"model": Toy(large_at=9.0)}, survival={"window": 4})
    assert [line["skipped_steps"] for line in lines(tmp_path)] == [0, 0, 0, 0, 1, 1]
    assert "times its running average" in (tmp_path / "log.txt").read_text()


def test_a_change_of_scale_that_lasts_is_taken_for_granted_after_some_steps(toy, tmp_path):
    toy(tmp_path, {"model": Toy(large_at=np.arange(9.0, 40.0))}, steps=36, survival={"window": 4, "patience": 30})
    skipped = [line["skipped_steps"] for line in lines(tmp_path)]
    assert 8 <= skipped[-1] <= 20 and skipped[-1] == skipped[-4]


BAD = [6.0, 7.0, 8.0]


def test_several_skipped_in_a_row_roll_back_to_the_newest_checkpoint_with_other_data(toy, tmp_path):
    toy(tmp_path / "a", {"model": Toy(nan_loss_at=BAD)}, survival={"patience": 3})
    arrays, _ = contents(tmp_path / "a")
    assert arrays["step"] == 12 and arrays["guard/rollbacks"] == 1 and arrays["guard/skipped"] == 0  # as it was at step 4
    assert "at step 8, after 3 skipped in a row: rolled back to step 4" in (tmp_path / "a" / "log.txt").read_text()
    assert lines(tmp_path / "a")[-1]["rollbacks"] == 1
    # What comes after are the batches of the other order: those of the first are missed by nobody.
    toy(tmp_path / "b", {"model": Toy(nan_loss_at=[6.0, 7.0, 8.0, *np.arange(9.0, 100.0)])}, survival={"patience": 3})
    assert_equal(contents(tmp_path / "b"), contents(tmp_path / "a"))


@pytest.mark.parametrize("kills", [({0: 7},), ({1: 3}, {1: 5})])  # before it; after it, and before and after the next checkpoint
def test_a_run_that_is_killed_around_a_roll_back_ends_as_an_unbroken_one(toy, tmp_path, kills):
    job, survival = {"model": Toy(nan_loss_at=BAD)}, {"patience": 2}
    toy(tmp_path / "whole", job, survival)
    for after in kills:
        with pytest.raises(Killed):
            toy(tmp_path / "killed", job | {"killed_after": after}, survival)
    toy(tmp_path / "killed", job, survival)
    assert_equal(contents(tmp_path / "killed"), contents(tmp_path / "whole"))


def test_a_roll_back_before_the_first_checkpoint_begins_anew_with_other_data(toy, tmp_path):
    toy(tmp_path, {"model": Toy(nan_loss_at=[1.0, 2.0])}, survival={"patience": 2})
    assert "rolled back to step 0" in (tmp_path / "log.txt").read_text() and contents(tmp_path)[0]["guard/skipped"] == 0


def test_what_no_roll_back_mends_stops_the_run(toy, tmp_path):
    bad = [order * 1000 + n for order in range(4) for n in (6.0, 7.0)]
    with pytest.raises(loop.NotFinite, match="at step 7, after 2 skipped in a row and 3 roll-backs"):
        toy(tmp_path, {"model": Toy(nan_loss_at=bad)}, survival={"patience": 2, "rollbacks": 3})
    assert checkpoint_contents.finished_steps(tmp_path) == [4]


class Terminated(Interrupted):
    """An iterator that the process is told to stop at, when its batch number `count` is asked for."""

    def __next__(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(self.iterator)


def test_a_run_that_is_told_to_stop_saves_and_ends_as_an_unbroken_one_when_started_again(toy, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "Interrupted", Terminated)
    before = signal.getsignal(signal.SIGTERM)
    for after, at in ((5, 5), (3, 8)):  # between two checkpoints, and at one
        with pytest.raises(RestartAsked, match=f"saved step {at} of 12"):
            toy(tmp_path, {"killed_after": after})
        assert checkpoint_contents.finished_steps(tmp_path)[-1] == at
        assert lines(tmp_path)[-1]["step"] == at  # what it had measured is told
    assert signal.getsignal(signal.SIGTERM) is before
    toy(tmp_path)
    assert_equal(contents(tmp_path), contents(whole))


def test_every_second_of_a_run_lies_somewhere_and_restarts_are_counted(toy, tmp_path):
    with pytest.raises(Killed):
        toy(tmp_path, {"killed_after": 7})
    toy(tmp_path)
    for line in lines(tmp_path):
        shares = [value for name, value in line.items() if name == "goodput" or name.startswith("lost/")]
        assert len(shares) == 8 and sum(shares) == pytest.approx(1, abs=1e-6) and min(shares) >= 0
    last = lines(tmp_path)[-1]
    assert last["lost/compile"] > 0 and last["lost/restart"] > 0 and last["lost/checkpoint"] > 0 and last["lost/sampling"] > 0
    assert "goodput" in (tmp_path / "log.txt").read_text()


def test_the_best_by_a_metric_and_every_so_many_are_kept_beside_the_newest(toy, tmp_path):
    toy(tmp_path, save_every=2, keep=1, keep_every=8, keep_best=1, log_every=2, steps=20)
    by_step = {line["step"]: line["loss"] for line in lines(tmp_path)}
    best = min(by_step, key=by_step.get)
    assert set(checkpoint_contents.finished_steps(tmp_path)) == {8, 16, 20, best}


def test_a_metric_that_there_is_not_is_named(toy, tmp_path):
    with pytest.raises(UserError, match="train.best is 'accuracy', expected a metric of the step: grad_norm, loss"):
        toy(tmp_path, keep_best=1, best="accuracy")


def test_a_new_run_takes_over_what_it_is_told_to(toy, whole, tmp_path):
    with pytest.raises(Killed):
        toy(tmp_path / "one", {"killed_after": 9})
    saved, begun = contents(tmp_path / "one")[0], []
    keep = {"pictures": lambda state, to: begun.append(jax.device_get(state))}
    for take, params, average in (("weights", "params", "params"), ("average", "ema", "ema"), ("model", "params", "ema")):
        begun.clear()
        toy(tmp_path / take, keep, start={"checkpoint": str(tmp_path / "one"), "take": take}, steps=1)
        np.testing.assert_array_equal(begun[0]["params"]["kernel"], saved[f"{params}/kernel"])
        np.testing.assert_array_equal(begun[0]["ema"]["kernel"], saved[f"{average}/kernel"])
        assert begun[0]["step"] == 0 and not any(leaf.any() for leaf in jax.tree.leaves(begun[0]["opt_state"]))
        assert (begun[0]["statistics"]["mean"] == saved["statistics/mean"]) == (take == "model")
    narrow = {"param_dtype": "bfloat16"}  # weights of other types are weights all the same
    toy(tmp_path / "narrow", keep, start={"checkpoint": str(tmp_path / "one"), "take": "weights"}, optimizer=narrow, steps=1)
    np.testing.assert_array_equal(begun[-2]["params"]["kernel"], saved["params/kernel"].astype(jnp.bfloat16))
    np.testing.assert_array_equal(begun[-2]["ema"]["kernel"], saved["params/kernel"])
    toy(tmp_path / "all", start={"checkpoint": str(tmp_path / "one" / "checkpoints" / "8"), "take": "all"})
    assert_equal(contents(tmp_path / "all"), contents(whole))
    assert f"it began with all of {tmp_path / 'one'}" in (tmp_path / "all" / "log.txt").read_text()


def test_a_start_that_does_not_fit_is_one_clear_line(toy, tmp_path):
    with pytest.raises(UserError, match="start.checkpoint is '.*gone', expected a workdir with a checkpoint"):
        toy(tmp_path / "two", start={"checkpoint": str(tmp_path / "gone")})


def test_a_trace_of_some_steps_is_written(toy, tmp_path):
    toy(tmp_path, steps=6, profile=(3, 2))
    assert list((tmp_path / "profile" / "plugins" / "profile").glob("*/*.xplane.pb"))


def test_a_damaged_newest_checkpoint_is_told_set_aside_and_trained_over(toy, whole, tmp_path):
    with pytest.raises(Killed):
        toy(tmp_path, {"killed_after": 9})
    for file in (tmp_path / "checkpoints" / "8" / "state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    toy(tmp_path)
    assert "checkpoint 8 is damaged, and the one before it is used" in (tmp_path / "log.txt").read_text()
    assert_equal(contents(tmp_path), contents(whole))
    assert (tmp_path / "checkpoints" / "8.damaged").exists()

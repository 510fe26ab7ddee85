"""One training loop for every model: read it from top to bottom."""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import math
import sys
import time
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import numpy as np

from videodit.core.config import write_config
from videodit.core.errors import RestartAsked, UserError
from videodit.core.memory import peak_rss_bytes
from videodit.sharding.mesh import make_mesh
from videodit.sharding.rules import tree_shardings
from videodit.training.checkpoints import Checkpoints
from videodit.training.compile_cache import use_compile_cache
from videodit.training.config import ExperimentConfig, TrainConfig
from videodit.training.goodput import Goodput
from videodit.training.guard import fault, skipped_lines, was_skipped
from videodit.training.jobs import Job, make_job
from videodit.training.metrics import Log, MetricsWriter, clock, matmul_flops_per_second, mean_of
from videodit.training.profiling import Profile
from videodit.training.start import take_over
from videodit.training.state import State, init_state, jit_step, make_optimizer, make_step, plays
from videodit.training.stopping import StopSignal
from videodit.training.watchdog import Watchdog

# What each roll-back adds to the seed of the data's order: more than the small numbers that tell a job's stages and sources apart.
_NEXT_ORDER = 1_000_003


class NotFinite(RuntimeError):
    """Steps keep going wrong, by a loss or gradient that is no number or leaps: training has stopped; no checkpoint holds such a step."""


def train(config: ExperimentConfig, workdir: epath.PathLike) -> None:
    """Trains `config.model` in `workdir` to `config.train.steps`, going on from the newest undamaged checkpoint where there is one.

    Raises NotFinite when steps go wrong again and again, RestartAsked when it was told to stop and has saved, UserError where data or
    config do not fit.
    """
    workdir, settings, survival = epath.Path(workdir), config.train, config.survival
    use_compile_cache(settings.compile_cache or workdir / ".jax_cache")
    first = jax.process_index() == 0  # of several processes, which all compute and save, this one tells
    goodput = Goodput(workdir / "metrics" / "goodput.json", quiet=not first)

    # -- model and data
    job = make_job(config, workdir)
    optimizer = make_optimizer(config.optimizer, settings.steps, job.model)
    if first:
        write_config(workdir, config)

    # -- state, laid out on the mesh
    mesh = make_mesh(config.mesh)
    make = lambda: init_state(job.model, optimizer, settings.seed, config.optimizer.param_dtype)
    shapes = jax.eval_shape(make)
    shardings = tree_shardings(shapes, job.model.axes, mesh)
    log = Log(workdir, quiet=not first)
    checkpoints = Checkpoints(workdir, settings.keep, settings.keep_every, settings.keep_best, tell=log.line)

    def begin() -> tuple[State, Any]:
        """The state to go on from and its data position: the newest checkpoint's, or that of step 0."""
        like = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), shapes, shardings)
        if checkpoints.latest is not None:
            return checkpoints.restore(like)
        return _first_state(config, job, make, like)

    state, position = begin()
    begun, rollbacks = int(state["step"]), int(state["guard"]["rollbacks"])
    job = _in_order(job, config, workdir, position, rollbacks)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    log.line(f"{config.model}: {parameters:,} parameters, mesh {dict(mesh.shape)}, step {begun} of {settings.steps}")
    begun_with = (f"it began with {config.start.take} of {config.start.checkpoint}",) if config.start.checkpoint else ()
    for line in (*begun_with, *job.notes):
        log.line(f"{config.model}: {line}")
    if begun >= settings.steps:
        checkpoints.close()
        return

    def show(state, number: int) -> None:
        if jax.process_count() > 1:
            state = {"ema": multihost_utils.process_allgather(state["ema"], tiled=True)}
        if not first:
            return
        from videodit.evaluation.report import write_report  # here: a restart need not wait for it

        job.pictures(state, workdir / "samples" / str(number))
        write_report(workdir.parent if workdir.name == "vae" else workdir)  # the page of the whole job, readable half way

    # -- step
    step = jit_step(make_step(job.model, optimizer, config.optimizer.ema_decay, settings.seed, settings.accumulate, survival), shardings)
    metrics, matmul = MetricsWriter(workdir, quiet=not first), matmul_flops_per_second()
    profile = Profile(workdir / "profile", *settings.profile)
    goodput.begin(begun)

    # -- loop. Step n is dispatched before anything of step n - 1 is read, so the device never waits for the host.
    pending, unseen, scores, window, number, stops = [], [], [], _Window(), begun, False
    aloud = log.line if first else functools.partial(print, file=sys.stderr, flush=True)
    with Watchdog(survival.hang_seconds, aloud) as watchdog, StopSignal() as stop, contextlib.closing(checkpoints):
        if begun == 0:
            show(state, 0)
            goodput.spent("sampling")
            watchdog.alive()
        while number < settings.steps and not stops:
            number += 1
            asked = time.perf_counter()
            host_batch = next(job.batches)
            batch = job.to_device(host_batch, mesh)
            window.add(job.worth(host_batch), waited=time.perf_counter() - asked)
            goodput.spent("data" if _all_done(pending) else "useful")
            # attention's kernels ask for the mesh; and nothing goes to or from a device but what was sent above
            with jax.set_mesh(mesh), jax.transfer_guard("disallow"), profile.step(number):
                state, told = step(state, batch, plays(job.model, number - 1))
            profile.dispatched(number, told)
            pending.append(told)
            unseen.append((number, told))
            scores.append(_score(told, settings))

            last, stops = number == settings.steps, stop.asked()
            logs, draws, saves = (number % every == 0 or last for every in (settings.log_every, settings.sample_every, settings.save_every))
            logs, saves = logs or stops, saves or stops

            # -- a step that went wrong changed nothing, and is only counted; several in a row roll back
            # A step is looked at before anything is made of its state, else when the next one is under way.
            seen, unseen = (unseen, []) if logs or draws or saves else (unseen[:-1], unseen[-1:])
            wrong = [point for point in seen if int(point[1]["skipped_in_a_row"]) >= survival.patience]
            if wrong:
                what = fault(*wrong[0])
                if rollbacks >= survival.rollbacks:
                    raise NotFinite(
                        f"{what}, after {survival.patience} skipped in a row and {rollbacks} roll-backs; the newest checkpoint is from "
                        "before it. Lower optimizer.learning_rate, or look at the data of that step"
                    )
                from_step, state, rollbacks = number, None, rollbacks + 1
                goodput.spent("skipped")
                state, position = begin()
                state["guard"]["rollbacks"] = jax.device_put(np.int32(rollbacks), shardings["guard"]["rollbacks"])
                job = _in_order(job, config, workdir, position, rollbacks)
                pending, unseen, scores, window, number, stops = [], [], [], _Window(), int(state["step"]), False
                log.line(f"{what}, after {survival.patience} skipped in a row: rolled back to step {number}, to go on with other data")
                goodput.lose(from_step - number, "skipped")
                goodput.spent("skipped")
                watchdog.alive()
                continue
            watchdog.alive()
            goodput.spent("useful", steps=1)

            if logs:
                for line in (*skipped_lines(pending, number), *job.bad.lines()):
                    log.line(line)
                good = [point for point in pending if not was_skipped(point)]
                goodput.lose(len(pending) - len(good), "skipped")
                values = (
                    mean_of(good)
                    | window.rates(job.unit)
                    | {"matmul_flops_per_second": matmul, "peak_memory_bytes": float(peak_rss_bytes())}
                    | {"skipped_steps": float(told["skipped_steps"]), "rollbacks": float(rollbacks), "bad_records": float(job.bad.count)}
                    | goodput.shares()
                )
                values.pop("skipped_in_a_row", None)  # 0 in every step that counts
                metrics.write(number, values)
                goodput.write(number)
                log.progress(_line(number, settings.steps, values, window, job))
                pending, window = [], _Window()

            # Pictures come before their step is saved: a run that is killed between the two draws them again, and none is lost.
            if draws:
                show(state, number)
                window.pause()
                goodput.spent("sampling")

            if saves:
                # The data position is saved before the next batch is drawn: it points at the first batch that `state` has not seen.
                checkpoints.save(state, job.batches.get_state(), _mean_score(scores))
                scores = []
                window.pause()
                goodput.spent("checkpoint")
            watchdog.alive()
        profile.close()

    goodput.spent("checkpoint")
    goodput.write(number, finished=number == settings.steps)
    metrics.close()
    log.line(f"{config.model}: step {number} of {settings.steps} done; {goodput.line()}")
    log.close()
    if number < settings.steps:
        raise RestartAsked(f"told to stop, it has saved step {number} of {settings.steps}: the same command goes on from there")


def _first_state(config: ExperimentConfig, job: Job, make: Callable[[], State], like: State) -> tuple[State, Any]:
    """The state at step 0, laid out as `like`: new but for what the run takes over; and the data position, where that is taken over too."""
    taken, position = take_over(config.start, job, like)  # first: it may not fit, and should say so before anything is compiled
    state = jax.jit(make, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like))()
    if "discriminator" in taken:
        taken["discriminator"] = state["discriminator"] | taken["discriminator"]
    return state | taken, position


def _in_order(job: Job, config: ExperimentConfig, workdir: epath.Path, position: Any, rollbacks: int) -> Job:
    """The job with its data from `position` on, in the order that the run has after so many roll-backs."""
    if rollbacks:
        other = dataclasses.replace(config.train, seed=config.train.seed + _NEXT_ORDER * rollbacks)
        job = make_job(dataclasses.replace(config, train=other), workdir)
    if position is not None:
        job.batches.set_state(position)
    return job


def _all_done(pending: list[dict]) -> bool:
    """Whether the device has nothing to do: what the host waits for then is waited for by the run."""
    return not pending or pending[-1]["loss"].is_ready()


def _score(told: dict, settings: TrainConfig) -> Any:
    if settings.keep_best and settings.best not in told:
        raise UserError(f"train.best is {settings.best!r}, expected a metric of the step: {', '.join(sorted(told))}")
    return told[settings.best] if settings.keep_best else None


def _mean_score(scores: list) -> float | None:
    """The mean over steps, those that were skipped as nothing left out."""
    finite = [value for value in map(float, filter(lambda score: score is not None, scores)) if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _line(number: int, steps: int, values: dict[str, float], window: "_Window", job: Job) -> str:
    left = (steps - number) * window.seconds / max(window.steps, 1)
    return (
        f"step {number}/{steps}  loss {values.get('loss', math.nan):.4f}  {values[f'{job.unit}_per_second']:,.0f} {job.unit}/s  "
        f"{values['model_flops_per_second'] / 1e9:,.1f} GFLOP/s  {clock(left)} to go"
    )


class _Window:
    """What has been done since the last log point, and how long it took; time spent saving and sampling is left out."""

    def __init__(self):
        self._start, self._done, self.steps = time.perf_counter(), {"tokens": 0.0, "slots": 0.0, "flops": 0.0}, 0
        self._waited = 0.0

    def add(self, work: dict[str, float], waited: float) -> None:
        self.steps += 1
        self._waited += waited
        for name in self._done:
            self._done[name] += work[name]

    def pause(self) -> None:
        """Starts the clock again; right after a log point, when nothing has been done."""
        self.__init__()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def rates(self, unit: str) -> dict[str, float]:
        seconds = self.seconds
        return {
            f"{unit}_per_second": self._done["tokens"] / seconds,
            "model_flops_per_second": self._done["flops"] / seconds,
            "real_token_share": self._done["tokens"] / self._done["slots"],
            "step_seconds": seconds / self.steps,
            # Of the loop on the host; the device computes the step before meanwhile, so it waits for less.
            "data_wait_share": self._waited / seconds,
        }

"""One training loop for every model: read it from top to bottom."""

from collections.abc import Callable
import math
import time
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp

from videodit.core.config import write_config
from videodit.core.memory import peak_rss_bytes
from videodit.evaluation.report import write_report
from videodit.sharding.mesh import make_mesh
from videodit.sharding.rules import tree_shardings
from videodit.training.checkpoints import Checkpoints
from videodit.training.config import ExperimentConfig
from videodit.training.jobs import Job, make_job
from videodit.training.metrics import Log, MetricsWriter, clock, matmul_flops_per_second, mean_of
from videodit.training.state import State, init_state, make_optimizer, make_step, plays


class NotFinite(RuntimeError):
    """The loss or its gradient is not a number: training has stopped, and the newest checkpoint is from before it."""


def train(config: ExperimentConfig, workdir: epath.PathLike) -> None:
    """Trains `config.model` in `workdir` to `config.train.steps`, going on from the newest checkpoint where there is one.

    Raises NotFinite when the loss or its gradient is NaN or infinite, UserError where data or config do not fit.
    """
    workdir, settings = epath.Path(workdir), config.train

    # -- model and data
    job = make_job(config, workdir)
    optimizer = make_optimizer(config.optimizer, settings.steps, job.model)
    first = jax.process_index() == 0  # of several processes, which all compute and save, this one tells
    if first:
        write_config(workdir, config)

    # -- state, laid out on the mesh
    mesh = make_mesh(config.mesh)
    make = lambda: init_state(job.model, optimizer, settings.seed)
    shardings = tree_shardings(jax.eval_shape(make), job.model.axes, mesh)
    checkpoints, log = Checkpoints(workdir, settings.keep), Log(workdir, quiet=not first)
    state = _first_state(make, shardings, job.start if checkpoints.latest is None else None)
    if checkpoints.latest is not None:
        state, position = checkpoints.restore(state)
        job.batches.set_state(position)
    begun = int(state["step"])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state["params"]))
    log.line(f"{config.model}: {parameters:,} parameters, mesh {dict(mesh.shape)}, step {begun} of {settings.steps}")
    for line in job.notes:
        log.line(f"{config.model}: {line}")
    if begun >= settings.steps:
        checkpoints.close()
        return

    def show(state, number: int) -> None:
        if jax.process_count() > 1:
            state = {"ema": multihost_utils.process_allgather(state["ema"], tiled=True)}
        if not first:
            return
        job.pictures(state, workdir / "samples" / str(number))
        write_report(workdir.parent if workdir.name == "vae" else workdir)  # the page of the whole job, readable half way

    # -- step
    step = jax.jit(
        make_step(job.model, optimizer, config.optimizer.ema_decay, settings.seed),
        donate_argnums=0,
        static_argnums=2,
        out_shardings=(shardings, None),
    )
    metrics, matmul = MetricsWriter(workdir, quiet=not first), matmul_flops_per_second()
    if begun == 0:
        show(state, 0)

    # -- loop. Step n is dispatched before anything of step n - 1 is read, so the device never waits for the host.
    pending, window = [], _Window()
    for number in range(begun + 1, settings.steps + 1):
        asked = time.perf_counter()
        host_batch = next(job.batches)
        batch = job.to_device(host_batch, mesh)
        window.add(job.worth(host_batch), waited=time.perf_counter() - asked)
        with jax.set_mesh(mesh):  # attention's kernels ask for it
            state, told = step(state, batch, plays(job.model, number - 1))
        pending.append(told)
        if len(pending) > 1:
            _check_finite(pending[-2], number - 1)
        last = number == settings.steps

        if number % settings.log_every == 0 or last:
            _check_finite(told, number)
            values = (
                mean_of(pending)
                | window.rates(job.unit)
                | {"matmul_flops_per_second": matmul, "peak_memory_bytes": float(peak_rss_bytes())}
            )
            values["bad_records"] = float(job.bad.count)
            metrics.write(number, values)
            for line in job.bad.lines():
                log.line(line)
            log.progress(_line(number, settings.steps, values, window, job))
            pending, window = [], _Window()

        # Pictures come before their step is saved: a run that is killed between the two draws them again, and none is lost.
        if number % settings.sample_every == 0 or last:
            _check_finite(told, number)
            show(state, number)
            window.pause()

        if number % settings.save_every == 0 or last:
            _check_finite(told, number)
            # The data position is saved before the next batch is drawn: it points at the first batch that `state` has not seen.
            checkpoints.save(state, job.batches.get_state())
            window.pause()

    checkpoints.close()
    metrics.close()
    log.line(f"{config.model}: step {settings.steps} of {settings.steps} done")
    log.close()


def _first_state(make: Callable[[], State], shardings: State, start: Callable[[], Any] | None) -> State:
    """The state at step 0. The parameters and their average are those that `start` gives, if any; all else is new."""
    weights = start() if start else None  # first: it may not fit, and should say so before anything is compiled
    state = jax.jit(make, out_shardings=shardings)()
    if weights is None:
        return state
    layout = {name: shardings[name] for name in ("params", "ema")}
    return state | jax.jit(lambda weights: {name: jax.tree.map(jnp.copy, weights) for name in layout}, out_shardings=layout)(weights)


def _check_finite(told: dict, step: int) -> None:
    # The gradient too: where the loss is still a number and its gradient is not, the weights that follow are none.
    for name, what in (
        ("loss", "loss"),
        ("grad_norm", "gradient's norm"),
        ("discriminator_grad_norm", "discriminator's gradient's norm"),
    ):
        if name in told and not math.isfinite(value := float(told[name])):
            raise NotFinite(
                f"the {what} is {value} at step {step}; the newest checkpoint is from before it. "
                "Lower optimizer.learning_rate, or look at the data of that step"
            )


def _line(number: int, steps: int, values: dict[str, float], window: "_Window", job: Job) -> str:
    left = (steps - number) * window.seconds / max(window.steps, 1)
    return (
        f"step {number}/{steps}  loss {values['loss']:.4f}  {values[f'{job.unit}_per_second']:,.0f} {job.unit}/s  "
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

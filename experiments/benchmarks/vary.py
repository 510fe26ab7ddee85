#!/usr/bin/env python3
"""Short trainings of one experiment under every combination of some settings, on the same data in the same order.

    python experiments/benchmarks/vary.py --config=experiments/local.py:dit --workdir=DIR --steps=300 \\
        dit.mlp=gelu,swiglu optimizer.learning_rate=1e-3,2e-3

`DIR` is a workdir with what the training reads (latents for the transformer, a data set for the VAE); nothing is written there. A row a
combination: the loss averaged over the last third of the steps, by seeds 0, 1, ... of `--seeds`, and the median time of a step.
"""

import argparse
import itertools
import statistics
import time

import jax
import numpy as np

from videodit.core.flags import load
from videodit.sharding.mesh import make_mesh
from videodit.training.config import read_experiment
from videodit.training.jobs import make_job
from videodit.training.state import init_state, make_optimizer, make_step


def losses_of(config, workdir: str) -> tuple[np.ndarray, float]:
    """The loss of each step, and the median seconds of one."""
    job, settings, mesh = make_job(config, workdir), config.train, make_mesh(config.mesh)
    optimizer = make_optimizer(config.optimizer, settings.steps, job.model)
    state = jax.jit(lambda: init_state(job.model, optimizer, settings.seed))()
    step = jax.jit(make_step(job.model, optimizer, config.optimizer.ema_decay, settings.seed), donate_argnums=0, static_argnums=2)
    losses, seconds = [], []
    with jax.set_mesh(mesh):
        for _ in range(settings.steps):
            batch = job.to_device(next(job.batches), mesh)
            began = time.perf_counter()
            state, told = step(state, batch, False)
            losses.append(float(told["loss"]))
            seconds.append(time.perf_counter() - began)
    return np.array(losses), statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("vary", nargs="+", metavar="KEY=VALUE,VALUE")
    chosen = parser.parse_args()
    keys, values = zip(*((key, each.split(",")) for key, each in (one.split("=", 1) for one in chosen.vary)))
    print("| " + " | ".join((*keys, "loss by seed", "mean", "s a step")) + " |\n" + "| --- " * (len(keys) + 3) + "|")
    for combination in itertools.product(*values):
        found, seconds = [], 0.0
        for seed in range(chosen.seeds):
            settings = {"train.steps": chosen.steps, "train.seed": seed, **dict(zip(keys, combination))}
            config = read_experiment(load(chosen.config, [f"--config.{key}={value}" for key, value in settings.items()]))
            losses, seconds = losses_of(config, chosen.workdir)
            found.append(losses[-len(losses) // 3 :].mean())
        cells = (*combination, " ".join(f"{each:.4f}" for each in found), f"{np.mean(found):.4f}", f"{seconds:.3f}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

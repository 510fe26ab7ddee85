"""Which steps count: a step whose loss or gradient went wrong is told from the others on the device, and not applied."""

from collections.abc import Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp

from videodit.training.config import SurvivalConfig

# Running average of the gradient's norm, how many steps it has seen; steps skipped in all and in a row; how often the run was rolled back.
# All zero at first, which is what a checkpoint without a guard is read as.
Guard = dict[str, jax.Array]

# What of a step's metrics says that it went wrong where it is not finite; those that a model lacks count as finite.
WATCHED = {"loss": "loss", "grad_norm": "gradient's norm", "discriminator_grad_norm": "discriminator's gradient's norm"}


def init_guard() -> Guard:
    """The guard at step 0."""
    count = lambda: jnp.zeros((), jnp.int32)
    return {"norm": jnp.zeros((), jnp.float32), "seen": count(), "skipped": count(), "in_a_row": count(), "rollbacks": count()}


def judge(guard: Guard, told: dict[str, jax.Array], config: SurvivalConfig) -> tuple[jax.Array, Guard]:
    """Whether a step with the metrics `told` counts, a boolean, and the next guard; a pure function, as the step is."""
    norm, average, seen = told["grad_norm"].astype(jnp.float32), guard["norm"], guard["seen"]
    finite = jnp.stack([jnp.isfinite(told[name]) for name in WATCHED if name in told]).all()
    spike = finite & (seen >= config.window) & (norm > config.spike * average) if config.spike else jnp.zeros((), bool)
    good = finite & ~spike
    follow = average + (norm - average) / (1.0 + jnp.minimum(seen, config.window - 1))
    return good, {
        "norm": jnp.where(good, follow, jnp.where(spike, 2.0 * average, average)),
        "seen": seen + good,
        "skipped": guard["skipped"] + ~good,
        "in_a_row": jnp.where(good, 0, guard["in_a_row"] + 1),
        "rollbacks": guard["rollbacks"],
    }


def choose(good: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the step counts, else `old`; trees of arrays."""
    return jax.tree.map(lambda new, old: jnp.where(good, new, old), new, old)


def fault(step: int, told: dict[str, Any]) -> str:
    """What was wrong with a skipped step, in words. Reads from the device."""
    for name, what in WATCHED.items():
        if name in told and not math.isfinite(value := float(told[name])):
            return f"the {what} is {value} at step {step}"
    norm, average = float(told["grad_norm"]), float(told["usual_grad_norm"])
    return f"the gradient's norm is {norm:.4g} at step {step}, {norm / max(average, 1e-30):,.0f} times its running average"


def was_skipped(told: dict[str, Any]) -> bool:
    """Whether a step was skipped. Waits for it."""
    return bool(told["skipped_in_a_row"])


def skipped_lines(points: Sequence[dict[str, Any]], last: int) -> list[str]:
    """A line for the log for each skipped step of `points`, the metrics of the steps up to `last`."""
    first = last - len(points) + 1
    return [f"skipped a step: {fault(step, told)}" for step, told in enumerate(points, start=first) if was_skipped(told)]

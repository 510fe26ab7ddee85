"""The train state and the step: a pure function of (state, batch), where randomness is folded from the step number."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from videodit.sharding.rules import path_name
from videodit.training.config import OptimizerConfig

# params, opt_state, ema (of params), step (int32), statistics (running means a model asks for; may be empty); discriminator (its params
# and opt_state) where the model has one. Plain dicts and arrays, so that a checkpoint is readable without the code that wrote it.
State = dict[str, Any]
Batch = Mapping[str, jax.Array]
STATISTICS_DECAY = 0.99


class Model(Protocol):
    """What the step needs of a model. `loss` returns the loss and (metrics, statistics), the latter to be averaged over steps."""

    def init(self, key: jax.Array) -> Any: ...

    def statistics(self) -> Any: ...

    def loss(self, params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]: ...


@runtime_checkable
class AdversarialModel(Model, Protocol):
    """A model that plays against a discriminator after `start` steps. That has weights and an optimizer of its own in the state."""

    start: int

    def init_discriminator(self, key: jax.Array) -> Any: ...

    def gradients(self, state: State, batch: Batch, key: jax.Array) -> tuple[tuple[jax.Array, Any], Any, Any]:
        """What `value_and_grad(loss)` gives, and the next `state["discriminator"]`."""
        ...


def plays(model: Model, steps: int) -> bool:
    """Whether a discriminator plays in the step after `steps`."""
    return isinstance(model, AdversarialModel) and steps >= model.start


def make_optimizer(config: OptimizerConfig, steps: int, model: Model | None = None) -> optax.GradientTransformation:
    """AdamW with clipping and schedule, as `OptimizerConfig` describes; its `base_width` counts for a model with `width` and `of_width`."""
    warmup = min(config.warmup, steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps, config.learning_rate * config.end_factor)
    is_matrix = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).endswith(("kernel", "embedding")), params)
    adamw = optax.adamw(schedule, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=is_matrix)
    by_width = [_scale_by_width(model, config.base_width / model.width)] if config.base_width and hasattr(model, "of_width") else []
    return optax.chain(optax.clip_by_global_norm(config.clip), adamw, *by_width)


def _scale_by_width(model: Any, factor: float) -> optax.GradientTransformation:
    scale = lambda path, update: update * factor if path_name(path).endswith(model.of_width) else update
    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scale, updates))


def init_state(model: Model, optimizer: optax.GradientTransformation, seed: int) -> State:
    """The state at step 0."""
    key = jax.random.key(seed)
    params = model.init(key)
    state = {
        "params": params,
        "opt_state": optimizer.init(params),
        "ema": jax.tree.map(jnp.copy, params),
        "step": jnp.zeros((), jnp.int32),
        "statistics": model.statistics(),
    }
    if isinstance(model, AdversarialModel):
        state["discriminator"] = model.init_discriminator(jax.random.fold_in(key, 2**32 - 1))  # no step draws from it
    return state


def make_step(model: Model, optimizer: optax.GradientTransformation, ema_decay: float, seed: int) -> Callable[..., tuple[State, dict]]:
    """The train step. Its randomness is `fold_in(key(seed), step)`: a resumed run draws what an unbroken one draws.

    `playing` says whether the model's discriminator plays. It is no branch of the computation, since XLA's CPU backend runs convolutions
    inside of one 15 times as slow; before the start the step is that of a model without a discriminator.
    """

    def step(state: State, batch: Batch, playing: bool = False) -> tuple[State, dict]:
        number = state["step"]
        key = jax.random.fold_in(jax.random.key(seed), number)
        new = dict(state)
        if playing:
            (loss, (metrics, statistics)), grads, new["discriminator"] = model.gradients(state, batch, key)
        else:
            (loss, (metrics, statistics)), grads = jax.value_and_grad(model.loss, has_aux=True)(state["params"], batch, key)
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)

        ramp = (1.0 + number) / (10.0 + number)  # an average over few steps while there are few
        ema = optax.incremental_update(params, state["ema"], 1.0 - jnp.minimum(ema_decay, ramp))
        averaged = (
            optax.incremental_update(statistics, state["statistics"], 1.0 - jnp.minimum(STATISTICS_DECAY, ramp))
            if statistics
            else statistics
        )
        new |= {"params": params, "opt_state": opt_state, "ema": ema, "step": number + 1, "statistics": averaged}
        return new, {"loss": loss, "grad_norm": optax.global_norm(grads), **metrics}

    return step

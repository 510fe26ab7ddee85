"""The train state and the step: a pure function of (state, batch), where randomness is folded from the step number."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from videodit.sharding.rules import path_name
from videodit.training.config import OptimizerConfig, SurvivalConfig
from videodit.training.guard import choose, init_guard, judge
from videodit.training.muon import scale_by_muon

# params, opt_state, ema (of params), step (int32), statistics (running means a model asks for; may be empty), guard (`training/guard.py`);
# discriminator (its params and opt_state) where the model has one. Plain dicts and arrays, so that a checkpoint is readable without the
# code that wrote it.
State = dict[str, Any]
Batch = Mapping[str, jax.Array]
STATISTICS_DECAY = 0.99


class Model(Protocol):
    """What the step needs of a model. `loss` returns the loss and (metrics, statistics), the latter to be averaged over steps."""

    def init(self, key: jax.Array) -> Any: ...

    def statistics(self) -> Any: ...

    def loss(self, params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]: ...


class AccumulatingModel(Model, Protocol):
    """A model whose loss is `total / sums["weight"]` of `loss_sum(params, draw(batch, key))`. All of that adds up over rows of the batch;
    `metrics` makes of the sums what is told."""

    def draw(self, batch: Batch, key: jax.Array) -> Batch: ...

    def loss_sum(self, params: Any, drawn: Batch) -> tuple[jax.Array, dict[str, Any]]: ...

    def metrics(self, sums: dict[str, Any]) -> dict[str, jax.Array]: ...


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
    """Clipping, then AdamW or Muon with a schedule, as `OptimizerConfig` describes; `base_width` counts for a model with `width` and
    `of_width`, Muon for the parameters that a model's `hidden_matrices` names, by path, with the axes that `scale_by_muon` asks for."""
    warmup = min(config.warmup, steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps, config.learning_rate * config.end_factor)
    by_width = [_scale_by_width(model, config.base_width / model.width)] if config.base_width and hasattr(model, "of_width") else []
    rule = _muon(config, schedule, model) if config.name == "muon" else _adamw(config, schedule)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule, *by_width)


def _adamw(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    is_matrix = lambda params: jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).endswith(("kernel", "embedding")), params)
    return optax.adamw(
        schedule, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=is_matrix, mu_dtype=config.mu_dtype
    )


def _muon(config: OptimizerConfig, schedule: optax.Schedule, model: Any) -> optax.GradientTransformation:
    axes = getattr(model, "hidden_matrices", lambda path: None)
    muon = optax.chain(scale_by_muon(axes), optax.add_decayed_weights(config.weight_decay), optax.scale_by_learning_rate(schedule))
    kind = lambda path, _: "adamw" if axes(path_name(path)) is None else "muon"
    adamw = _adamw(config, lambda step: config.adam_factor * schedule(step))
    return optax.partition({"muon": muon, "adamw": adamw}, lambda params: jax.tree_util.tree_map_with_path(kind, params))


def _scale_by_width(model: Any, factor: float) -> optax.GradientTransformation:
    scale = lambda path, update: update * factor if path_name(path).endswith(model.of_width) else update
    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scale, updates))


def init_state(model: Model, optimizer: optax.GradientTransformation, seed: int, param_dtype: str = "float32") -> State:
    """The state at step 0."""
    key = jax.random.key(seed)
    params = model.init(key)
    state = {
        "params": jax.tree.map(lambda leaf: leaf.astype(param_dtype), params),
        "opt_state": optimizer.init(params),
        "ema": jax.tree.map(jnp.copy, params),
        "step": jnp.zeros((), jnp.int32),
        "statistics": model.statistics(),
        "guard": init_guard(),
    }
    if isinstance(model, AdversarialModel):
        state["discriminator"] = model.init_discriminator(jax.random.fold_in(key, 2**32 - 1))  # no step draws from it
    return state


def make_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: int,
    accumulate: int = 1,
    survival: SurvivalConfig | None = None,
) -> Callable[..., tuple[State, dict]]:
    """The train step. Its randomness is `fold_in(key(seed), step)`: a resumed run draws what an unbroken one draws. A batch is taken in
    `accumulate` parts, by an `AccumulatingModel`.

    A step that went wrong, by `survival` (its defaults where None), changes nothing but `step` and `guard`: no host needs to look.

    `playing` says whether the model's discriminator plays. It is no branch of the computation, since XLA's CPU backend runs convolutions
    inside of one 15 times as slow; before the start the step is that of a model without a discriminator.
    """

    survival = survival or SurvivalConfig()

    def step(state: State, batch: Batch, playing: bool = False) -> tuple[State, dict]:
        number = state["step"]
        key = jax.random.fold_in(jax.random.key(seed), number)
        new = dict(state)
        if playing:
            (loss, (metrics, statistics)), grads, new["discriminator"] = model.gradients(state, batch, key)
        elif accumulate > 1:
            (loss, (metrics, statistics)), grads = _accumulated(model, state["params"], batch, key, accumulate)
        else:
            (loss, (metrics, statistics)), grads = jax.value_and_grad(model.loss, has_aux=True)(state["params"], batch, key)
        grads, exact = _float32(grads), _float32(state["params"])
        updates, opt_state = optimizer.update(grads, state["opt_state"], exact)
        exact = optax.apply_updates(exact, updates)
        params = _rounded(exact, state["params"], jax.random.fold_in(key, 2**32 - 1))  # no model draws from it

        ramp = (1.0 + number) / (10.0 + number)  # an average over few steps while there are few
        ema = _moved(state["ema"], exact, 1.0 - jnp.minimum(ema_decay, ramp))
        averaged = _moved(state["statistics"], statistics, 1.0 - jnp.minimum(STATISTICS_DECAY, ramp)) if statistics else statistics
        new |= {"params": params, "opt_state": opt_state, "ema": ema, "statistics": averaged}

        told = {"loss": loss, "grad_norm": optax.global_norm(grads), **metrics}
        good, guard = judge(state["guard"], told, survival)
        new = choose(good, new, state) | {"step": number + 1, "guard": guard}
        told |= {"usual_grad_norm": state["guard"]["norm"], "skipped_steps": guard["skipped"], "skipped_in_a_row": guard["in_a_row"]}
        return new, told

    return step


def jit_step(step: Callable[..., tuple[State, dict]], shardings: Any) -> Any:
    """The step compiled as training runs it: the state, laid out by `shardings`, is written over."""
    return jax.jit(step, donate_argnums=0, static_argnums=2, out_shardings=(shardings, None))


def _moved(average: Any, value: Any, rate: jax.Array) -> Any:
    """`average` moved towards `value` by `rate` of the way, in the form that leaves an average where it is when it equals the value."""
    return jax.tree.map(lambda old, new: old + rate * (new - old), average, value)


def _accumulated(model: AccumulatingModel, params: Any, batch: Batch, key: jax.Array, parts: int):
    """As `value_and_grad(model.loss)`. Part i holds rows i, i + parts, ...: every device has its share of each part."""
    split = lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
    drawn = jax.tree.map(split, model.draw(batch, key))
    part = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), drawn)
    gradient = jax.value_and_grad(model.loss_sum, has_aux=True)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), jax.eval_shape(gradient, params, part))

    def add(carry, part):
        return jax.tree.map(jnp.add, carry, gradient(params, part)), None

    ((total, sums), grads), _ = jax.lax.scan(add, zeros, drawn)
    share = 1 / jnp.maximum(sums["weight"], 1)
    return (total * share, (model.metrics(sums), {})), jax.tree.map(lambda each: each * share, grads)


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def _rounded(exact: Any, like: Any, key: jax.Array) -> Any:
    """Float32 leaves in the dtypes of `like`: bfloat16 is one of the two neighbours, each the likelier the nearer."""
    leaves, tree = jax.tree.flatten(exact)
    keys = jax.random.split(key, len(leaves)) if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(like)) else leaves

    def rounded(leaf, like, key):
        if like.dtype == leaf.dtype:
            return leaf
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        noisy = (bits + jax.random.bits(key, leaf.shape, jnp.uint16)) & jnp.uint32(0xFFFF0000)
        return jax.lax.bitcast_convert_type(noisy, jnp.float32).astype(like.dtype)

    return jax.tree.unflatten(tree, [rounded(*each) for each in zip(leaves, jax.tree.leaves(like), keys)])

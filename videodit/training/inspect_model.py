"""What a config's transformer costs before anything runs: parameters, FLOPs a token and memory, by part. Nothing is allocated."""

from collections.abc import Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp

from videodit.models.dit.model import forward_flops, row_shapes
from videodit.models.text.source import planned_embedder
from videodit.sharding.rules import path_name
from videodit.training.config import ExperimentConfig
from videodit.training.jobs import dit_model, planned_slots
from videodit.training.models import DiTModel
from videodit.training.state import init_state, make_optimizer

GIB = 2**30


def inspect_model(config: ExperimentConfig) -> dict[str, Any]:
    """Of the transformer of a config, as JSON values.

    `parameters` by part; `flops_per_token`, forward and in training, of a patch token whose clip fills a row, and of one that sees a
    64th of it (real tokens and pairs inside clips only); `bytes` of the state by part, and of what the backward pass keeps for one row,
    as JAX traces it under the config's remat policy.
    """
    model = dit_model(config, config.vae.latent_channels, planned_embedder(config.text))
    optimizer = make_optimizer(config.optimizer, config.train.steps, model)
    state = jax.eval_shape(lambda: init_state(model, optimizer, 0, config.optimizer.param_dtype))
    length = config.packing.length
    return {
        "kind": "model",
        "path": config.model,
        "parameters": _by_part(state["params"]),
        "row_tokens": length,
        "flops_per_token": {name: flops_per_token(model, pairs) for name, pairs in (("whole_row", length), ("64th_of_row", length / 64))},
        "bytes": {
            "parameters": _bytes(state["params"]),
            "gradients": _bytes(state["params"]),
            "optimizer": _bytes(state["opt_state"]),
            "average": _bytes(state["ema"]),
            "activations_a_row": activation_bytes(model, state["params"], length, planned_slots(config)),
        },
    }


def flops_per_token(model: DiTModel, seen: float) -> float:
    """Owed by a training step for a patch token that sees `seen` tokens: three times the forward pass."""
    return 3 * forward_flops(model.config, model.patch_channels, text_tokens=0, patch_tokens=1, pairs=seen)


def activation_bytes(model: DiTModel, params: Any, length: int, slots: Sequence[int]) -> int:
    """What a row with so many `slots` of text leaves for the backward pass, parameters aside."""
    struct, row = jax.ShapeDtypeStruct, row_shapes(model.text, 1, length, slots)
    patches, level = struct((1, length, model.patch_channels), jnp.float32), struct((1, length), jnp.float32)

    def backward(params, patches, level, row):
        return jax.vjp(lambda p: model.module.apply({"params": p}, patches, level, row), params)[1]

    parameters = {leaf.shape for leaf in jax.tree.leaves(params)}  # kept too, some in the products' type
    kept = jax.tree.leaves(jax.eval_shape(backward, params, patches, level, row))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept if leaf.shape not in parameters)


def _by_part(params: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = "/".join(path_name(path).split("/")[:2]) if path_name(path).startswith("blocks/") else path_name(path).split("/")[0]
        found[name] = found.get(name, 0) + math.prod(leaf.shape)
    return found


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def model_lines(found: dict[str, Any]) -> list[str]:
    """`inspect_model` for a person."""
    parameters = found["parameters"]
    lines = [f"  parameters     {sum(parameters.values()):,}"]
    lines += [f"    {name:<24} {count:>16,}" for name, count in sorted(parameters.items(), key=lambda each: -each[1])]
    row, flops = found["row_tokens"], found["flops_per_token"]
    lines.append("  training FLOPs a patch token (real tokens and pairs inside clips only)")
    lines.append(f"    a clip of {row:,} tokens  {flops['whole_row']:.3g}")
    lines.append(f"    a clip of {row // 64:,} tokens  {flops['64th_of_row']:.3g}")
    lines.append("  memory, GiB over all devices")
    lines += [f"    {name.replace('_', ' '):<24} {count / GIB:>10,.3f}" for name, count in found["bytes"].items()]
    return lines

"""A job's own train step, compiled ahead of time for devices that are not there."""

import dataclasses
import math
import re
from typing import Any

import jax
from jax.experimental import topologies
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.data.packing import TOKEN_FEATURES
from videodit.sharding.mesh import make_mesh
from videodit.sharding.rules import batch_shardings, tree_shardings
from videodit.training.config import ExperimentConfig
from videodit.training.jobs import dit_model
from videodit.training.state import init_state, make_optimizer, make_step

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4}
_COLLECTIVE = re.compile(r"= (\S.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def topology_devices(topology: str, slices: int = 1) -> list:
    """Devices of a TPU topology such as "v5p:4x4x4", for compiling alone. Needs libtpu, and no TPU.

    Raises UserError where there is no such topology, or no libtpu.
    """
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, num_slices=slices).devices)
    except Exception as error:  # JAX raises several kinds, one that libtpu is missing among them
        first = str(error).splitlines()[0]
        raise UserError(f"topology {topology!r}: {first}; expected e.g. v5e:4x4, v5p:4x4x8 or v6e:16x16, and jax[tpu] installed") from error


def compile_dit_step(config: ExperimentConfig, devices: list) -> jax.stages.Compiled:
    """The transformer's train step of a config, on a mesh of `devices`, with the attention of their platform."""
    mesh = make_mesh(config.mesh, devices)
    if config.dit.attention == "auto":
        backend = "splash" if devices[0].platform == "tpu" else "auto"
        config = dataclasses.replace(config, dit=dataclasses.replace(config.dit, attention=backend))
    model = dit_model(config, config.vae.latent_channels, config.latents.vocabulary)
    optimizer = make_optimizer(config.optimizer, config.train.steps, model)
    state = jax.eval_shape(lambda: init_state(model, optimizer, 0))
    shardings = tree_shardings(state, model.axes, mesh)
    step = jax.jit(
        make_step(model, optimizer, config.optimizer.ema_decay, config.train.seed),
        donate_argnums=0,
        static_argnums=2,
        out_shardings=(shardings, None),
    )
    laid_out = lambda tree, how: jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), tree, how)
    batch = _batch(config, model.patch_channels)
    with jax.set_mesh(mesh):
        return step.lower(laid_out(state, shardings), laid_out(batch, batch_shardings(batch, mesh)), False).compile()


def _batch(config: ExperimentConfig, patch_channels: int) -> dict[str, jax.ShapeDtypeStruct]:
    rows, length = config.packing.rows, config.packing.length
    width = {"patches": (patch_channels,), "positions": (3,), "extent": (3,)}
    kinds = {"patches": jnp.float32}
    names = [name for name in (*TOKEN_FEATURES, "segment_ids") if name != "clip"]
    return {name: jax.ShapeDtypeStruct((rows, length, *width.get(name, ())), kinds.get(name, jnp.int32)) for name in names}


def collectives(text: str) -> list[dict[str, Any]]:
    """The collectives of a compiled program's text: `kind`, `shape` and `bytes` of what each gives on one device; a loop's body counts
    once."""
    found = []
    for gives, name, start in _COLLECTIVE.findall(text):
        arrays = _ARRAY.findall(gives)
        for kind, sizes in arrays[len(arrays) // 2 :] if start and len(arrays) > 1 else arrays:  # a start gives its operands first
            shape = [int(size) for size in sizes.split(",") if size]
            found.append({"kind": name, "shape": shape, "bytes": _BYTES.get(kind, 4) * math.prod(shape)})
    return found

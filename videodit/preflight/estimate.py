"""What a config takes on a mesh by arithmetic alone, where nothing is compiled: for GPUs, and to choose what to compile.

Memory: the state as its shardings split it; its gradients; what the backward pass keeps, as JAX traces it for one row; one layer's weights
gathered twice over; and a layer's work, `_LAYER_WORK` times its input, by which this meets XLA's peaks for v5p within a quarter
(`experiments/benchmarks/results/pods.md`). Network: weights gathered over `fsdp` forward and back in the products' type, gradients summed,
activations summed over `tensor` four times a layer, keys and values gathered over `context`; on GPUs the first two beside arithmetic.
"""

from dataclasses import dataclass
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from videodit.preflight.chips import Target
from videodit.preflight.compile import device_bytes, job_model, laid_out, train_batch
from videodit.preflight.roofline import PRODUCT_EFFICIENCY, Roofline, attention_seconds
from videodit.preflight.work import train_work
from videodit.sharding.mesh import AXES, mesh_shape
from videodit.sharding.rules import batch_shardings, tree_shardings
from videodit.training.config import ExperimentConfig
from videodit.training.inspect_model import activation_bytes
from videodit.training.jobs import planned_slots
from videodit.training.models import DiTModel
from videodit.training.state import init_state, make_optimizer

# A layer's temporaries over its input in the products' type: modulation and its gradient in float32 are 12 times it, the MLP's inner
# activations and their gradients 16 times.
_LAYER_WORK = 40
# What a layer's element-wise operations cost, forward and back, as if its input went so many times to memory: by XLA's cycles for the 8 B
# model on v5p, where they take a quarter of the time that products take.
_LAYER_TRAFFIC = 450


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A step's memory on one device by kind, in bytes, and its time."""

    memory: dict[str, float]
    roofline: Roofline

    @property
    def peak_bytes(self) -> float:
        return sum(self.memory.values())


def abstract_mesh(config: ExperimentConfig, devices: int) -> AbstractMesh:
    """The mesh of a config over so many devices, of no devices at all."""
    return AbstractMesh(mesh_shape(config.mesh, devices), AXES)


def estimate(config: ExperimentConfig, target: Target) -> Estimate:
    """Of the train step of a transformer's config."""
    mesh = abstract_mesh(config, target.devices)
    model, state, traced = _traced(_Frozen(config))
    split = math.prod(mesh.shape.values())
    rows = max(1.0, config.packing.rows / config.train.accumulate / (mesh.shape["data"] * mesh.shape["fsdp"]))
    inside = mesh.shape["context"] * mesh.shape["tensor"]
    state = laid_out(state, tree_shardings(state, model.axes, mesh))
    batch = train_batch(config, model)
    size = jnp.dtype(config.dit.dtype).itemsize
    layer = _layer_bytes(state["params"], config.dit.depth, size)
    gradients = device_bytes(state["params"]) * 4 / jnp.dtype(config.optimizer.param_dtype).itemsize
    stream = rows * config.packing.length * config.dit.width * size / inside
    memory = {
        "parameters": device_bytes(state["params"]),
        "optimizer": device_bytes(state["opt_state"]),
        "average": device_bytes(state["ema"]),
        "batch": device_bytes(laid_out(batch, batch_shardings(batch, mesh))),
        "activations": rows * traced / inside,
        "temporaries": gradients * (2 if config.train.accumulate > 1 else 1) + 2 * layer / mesh.shape["tensor"] + _LAYER_WORK * stream,
    }
    work, chip = train_work(config), target.chip
    share = lambda axis: (mesh.shape[axis] - 1) / mesh.shape[axis]
    weights = layer * config.dit.depth / mesh.shape["tensor"] * config.train.accumulate
    streams = rows * config.packing.length * config.dit.width * size * config.dit.depth * config.train.accumulate
    # On 64 TPUs and more XLA makes sums of gathers and of scatters, and waits for them (experiments/benchmarks/results/pods.md).
    times = 6 if chip.is_tpu else 3
    networks = {
        "fsdp": times * weights * share("fsdp"),
        "data": 2 * gradients * share("data"),
        "tensor": 8 * streams / mesh.shape["context"] * share("tensor"),
        "context": 6 * streams / mesh.shape["tensor"] * share("context"),
    }
    seconds = {name: sent / _rate(name, mesh, target) for name, sent in networks.items() if sent}
    hidden = [name for name in seconds if name in ("fsdp", "data") and not chip.is_tpu]
    peak = target.per_device(chip.flops)
    products = work.product_flops / split / peak
    moved = 2 * (sum(memory.values()) - memory["activations"]) + config.train.accumulate * _LAYER_TRAFFIC * stream * config.dit.depth
    memory_time = moved / target.per_device(chip.hbm_rate)
    attention = attention_seconds(work, target)
    return Estimate(
        memory=memory,
        roofline=Roofline(
            source="analytic",
            matrix=products + work.attention_flops * work.attention_passes / split / peak,
            memory=memory_time,
            attention=attention,
            compute=products / PRODUCT_EFFICIENCY + memory_time + attention,
            networks={f"{name} {_network(name, mesh, target)}": value for name, value in seconds.items()},
            hidden=sum(seconds[name] for name in hidden),
            waited=sum(seconds[name] for name in seconds if name not in hidden),
        ),
    )


def _network(axis: str, mesh: AbstractMesh, target: Target) -> str:
    """Whether an axis of the mesh stays on the links between neighbours; the last axes are the nearest."""
    if target.chip.is_tpu:
        return "DCN" if axis == "data" and target.slices > 1 else "ICI"
    reach = math.prod(mesh.shape[name] for name in AXES[AXES.index(axis) :])
    return "ICI" if reach <= target.chip.group else "DCN"


def _rate(axis: str, mesh: AbstractMesh, target: Target) -> float:
    """Bytes/s of a device along an axis."""
    chip = target.chip
    if _network(axis, mesh, target) == "DCN":
        return target.per_device(chip.dcn_rate)
    if not chip.is_tpu:
        return chip.link_rate
    sides = next((n for n in range(1, len(target.shape)) if math.prod(target.shape[:n]) >= mesh.shape[axis]), len(target.shape))
    return chip.link_rate * sum(2 if side % chip.wraps == 0 else 1 for side in target.shape[:sides])


def _layer_bytes(params: Any, depth: int, size: int) -> float:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params["blocks"])) / depth * size


class _Frozen:
    """A config by what its state and activations depend on."""

    def __init__(self, config: ExperimentConfig):
        self.config = config
        self.key = repr((config.dit, config.text, config.vae, config.packing.length, config.packing.max_text_tokens, config.optimizer))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: Any) -> bool:
        return self.key == other.key


@functools.lru_cache(maxsize=64)
def _traced(frozen: _Frozen) -> tuple[DiTModel, Any, int]:
    """The model, its state's shapes, and what a row leaves for the backward pass."""
    config = frozen.config
    model = job_model(config)
    optimizer = make_optimizer(config.optimizer, config.train.steps, model)
    state = jax.eval_shape(lambda: init_state(model, optimizer, 0, config.optimizer.param_dtype))
    return model, state, activation_bytes(model, state["params"], config.packing.length, planned_slots(config))


def kept_bytes(config: ExperimentConfig, mesh_shape: dict[str, int]) -> float:
    """What a transformer's step keeps for its backward pass, on one device, as JAX traces it."""
    rows = max(1.0, config.packing.rows / config.train.accumulate / (mesh_shape["data"] * mesh_shape["fsdp"]))
    return rows * _traced(_Frozen(config))[2] / (mesh_shape["context"] * mesh_shape["tensor"])

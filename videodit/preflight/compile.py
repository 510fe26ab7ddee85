"""A job's own programs, compiled ahead of time for devices that are not there: the train step, encoding, a sampler."""

from collections.abc import Callable
import dataclasses
import math
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding
import numpy as np

from videodit.core.errors import UserError
from videodit.diffusion.solvers import noise_schedule
from videodit.generation.generator import solve
from videodit.models.dit.model import row_shapes
from videodit.models.text.source import planned_embedder
from videodit.models.vae.streaming import make_plan
from videodit.preflight.chips import Target
from videodit.preflight.xla_flags import flags_for
from videodit.sharding.mesh import make_mesh
from videodit.sharding.rules import batch_shardings, tree_shardings
from videodit.training.config import ExperimentConfig
from videodit.training.jobs import dit_model, planned_slots, vae_model
from videodit.training.models import DiTModel
from videodit.training.restore import moments
from videodit.training.state import init_state, jit_step, make_optimizer, make_step, plays

_NEEDED = (re.compile(r"Used ([\d.]+)([KMGT])\w* of"), re.compile(r"\(([\d.]+)([KMGT])\w*\) exceeds available"))
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_STATE = {"params": "parameters", "opt_state": "optimizer", "ema": "average", "discriminator": "discriminator"}


class DoesNotFit(Exception):
    """XLA has found no way to run a program in the memory of a device; `needed`: bytes, None where it does not say."""

    def __init__(self, program: str, needed: float | None, said: str):
        super().__init__(said)
        self.program, self.needed = program, needed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """A program for one device of a mesh. `arguments`: bytes of what it is given, by kind; `seconds` that compiling took."""

    program: str
    executable: jax.stages.Compiled
    mesh: Mesh | None
    arguments: dict[str, int]
    seconds: float

    @property
    def peak_bytes(self) -> int:
        """The most memory that it takes at once, arguments and all: XLA's figure."""
        return self.executable.memory_analysis().peak_memory_in_bytes


def topology_devices(topology: str, slices: int = 1) -> list:
    """Devices of a TPU topology such as "v5p:4x4x4", for compiling alone. Needs libtpu, and no TPU.

    Programs for them are compiled with the flags that a job on them is started with (`xla_flags.py`), where LIBTPU_INIT_ARGS has none.

    Raises UserError where there is no such topology, or no libtpu.
    """
    flags = flags_for(topology.partition(":")[0], slices)
    os.environ.setdefault("LIBTPU_INIT_ARGS", " ".join(map(str, flags)))
    for name, value in {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}.items():  # there is no TPU to ask for
        os.environ.setdefault(name, value)
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, num_slices=slices).devices)
    except Exception as error:  # JAX raises several kinds, one that libtpu is missing among them
        first = str(error).splitlines()[0]
        raise UserError(f"topology {topology!r}: {first}; expected e.g. v5e:4x4, v5p:4x4x8 or v6e:16x16, and jax[tpu] installed") from error


def compile_train(config: ExperimentConfig, devices: list) -> Compiled:
    """The train step of `config.model` on a mesh of `devices`. Raises DoesNotFit."""
    mesh, config = make_mesh(config.mesh, devices), for_platform(config, devices[0].platform)
    model = job_model(config)
    optimizer = make_optimizer(config.optimizer, config.train.steps, model)
    state = jax.eval_shape(lambda: init_state(model, optimizer, 0, config.optimizer.param_dtype))
    shardings = tree_shardings(state, model.axes, mesh)
    step = jit_step(
        make_step(model, optimizer, config.optimizer.ema_decay, config.train.seed, config.train.accumulate, config.survival), shardings
    )
    batch = train_batch(config, model)
    playing = plays(model, config.train.steps - 1)
    placed = laid_out(state, shardings), laid_out(batch, batch_shardings(batch, mesh))
    arguments = {_STATE.get(name, "other"): 0 for name in state}
    for name, tree in placed[0].items():
        arguments[_STATE.get(name, "other")] += device_bytes(tree)
    arguments["batch"] = device_bytes(placed[1])
    return _compile("train", mesh, arguments, lambda: step.lower(*placed, playing))


def compile_sample(config: ExperimentConfig, devices: list) -> Compiled:
    """The transformer's sampler as generation runs it, on rows of the config's length. Raises DoesNotFit."""
    mesh, config = make_mesh(config.mesh, devices), for_platform(config, devices[0].platform)
    model, rows, length = job_model(config), config.packing.rows, config.packing.length
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = train_batch(config, model) | {
        "twin": jax.ShapeDtypeStruct((rows, length), jnp.int32),
        "first": jax.ShapeDtypeStruct((rows, length), jnp.bool_),
        "keys": jax.ShapeDtypeStruct((rows, length, 2), jnp.uint32),
    }
    levels = jax.ShapeDtypeStruct((len(noise_schedule(config.sample.steps)), rows, length), jnp.float32)
    params, batch = (
        laid_out(params, tree_shardings(params, model.axes, mesh)),
        laid_out(batch, batch_shardings(batch, mesh)),
    )
    by_rows = jax.sharding.NamedSharding(mesh, PartitionSpec(None, *batch["segment_ids"].sharding.spec))
    levels = jax.ShapeDtypeStruct(levels.shape, levels.dtype, sharding=by_rows)
    arguments = {"parameters": device_bytes(params), "batch": device_bytes(batch) + device_bytes(levels)}
    return _compile(
        "sample", mesh, arguments, lambda: solve.lower(model, config.sample.solver, config.sample.guidance, params, batch, levels)
    )


def compile_encode(config: ExperimentConfig, target: Target, devices: list) -> Compiled:
    """What the VAE does at once of one of the largest clips, as `encode` takes these apart in a chip's memory; each device has its own.

    Raises DoesNotFit, and UserError where not even the smallest part of a frame does.
    """
    model = vae_model(config)
    params = jax.eval_shape(model.init, jax.random.key(0))
    plan = make_plan(model.module, params, largest_clip(config)[1:], "encode", int(0.75 * target.per_device(target.chip.hbm_bytes)))
    t, h, w = config.vae.stride
    shape = (1, 1 + t * (plan.chunk - 1), plan.tile[0] * h, plan.tile[1] * w, 3)
    one = SingleDeviceSharding(devices[0])
    pixels = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=one)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one), params)
    made = _compile("encode", None, {}, lambda: jax.jit(lambda params, x: moments(model, params, x)).lower(params, pixels))
    given = made.executable.memory_analysis().argument_size_in_bytes  # the decoder's weights are left out
    return dataclasses.replace(made, arguments={"parameters": given - math.prod(shape), "batch": math.prod(shape)})


def job_model(config: ExperimentConfig) -> Any:
    """The model that a config trains."""
    if config.model == "vae":
        return vae_model(config)
    return dit_model(config, config.vae.latent_channels, planned_embedder(config.text))


def for_platform(config: ExperimentConfig, platform: str) -> ExperimentConfig:
    """The config with the form of attention that it has on a platform."""
    if config.dit.attention != "auto":
        return config
    backend = {"tpu": "splash"}.get(platform, "auto")
    return dataclasses.replace(config, dit=dataclasses.replace(config.dit, attention=backend))


def train_batch(config: ExperimentConfig, model: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of what a train step reads: packed rows, or the VAE's largest clips."""
    if not isinstance(model, DiTModel):
        clips, height, width = max(
            ((stage.batch * stage.policy.max_frames, *_side_by_side(stage.policy)) for stage in config.vae_training.stages), key=math.prod
        )
        stage = next(each for each in config.vae_training.stages if clips % each.policy.max_frames == 0)
        frames = stage.policy.max_frames
        return {"pixels": jax.ShapeDtypeStruct((clips // frames, frames, height, width, 3), jnp.uint8)}
    rows, length = config.packing.rows, config.packing.length
    batch = row_shapes(model.text, rows, length, planned_slots(config))
    batch["patches"] = jax.ShapeDtypeStruct((rows, length, model.patch_channels), jnp.float32)
    return batch


def largest_clip(config: ExperimentConfig) -> tuple[int, int, int]:
    """(frames, height, width) of the largest clip that the latents' policy lets in, at 16:9."""
    policy = config.latents.policy
    return policy.max_frames, *_side_by_side(policy)


def _side_by_side(policy: Any) -> tuple[int, int]:
    """Height and width of the most pixels that a policy lets a frame of its longest clip have, at 16:9."""
    t, h, w = policy.grid
    cells = max(1, policy.max_tokens // (1 + (policy.max_frames - 1) // t))
    rows = max(1, int(math.sqrt(cells * 9 / 16 * w / h)))
    return rows * h, max(1, cells // rows) * w


def laid_out(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), tree, shardings)


def device_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes with shardings, on one device."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def _compile(program: str, mesh: Mesh | None, arguments: dict[str, int], lower: Callable[[], jax.stages.Lowered]) -> Compiled:
    began = time.perf_counter()
    try:
        if mesh is None:
            executable = lower().compile()
        else:
            with jax.set_mesh(mesh):
                executable = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        said = str(error)
        if "RESOURCE_EXHAUSTED" not in said:
            raise
        found = next((match for match in (each.search(said) for each in _NEEDED) if match), None)
        raise DoesNotFit(program, float(found[1]) * _UNIT[found[2]] if found else None, said.splitlines()[0]) from error
    return Compiled(program=program, executable=executable, mesh=mesh, arguments=arguments, seconds=time.perf_counter() - began)

"""What a new run begins with in the place of numbers drawn from its seed: by `StartConfig`, or by the weights that its job gives."""

import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.models.dit import interchange
from videodit.training import checkpoint_contents
from videodit.training.checkpoints import read_step
from videodit.training.config import StartConfig
from videodit.training.jobs import Job
from videodit.training.models import DiTModel
from videodit.training.restore import load_dit_start
from videodit.training.state import State


def take_over(config: StartConfig, job: Job, like: State) -> tuple[State, Any]:
    """(The parts of a state that the run begins with, laid out as `like`; the data position, None but where all is taken.)

    Raises UserError where what it should begin with is not there, or is of another model than `like`.
    """
    if job.start:
        return _weights_and_average(job.start(), like), None
    if not config.checkpoint:
        return {}, None
    if _is_exported(config.checkpoint):
        return _weights_and_average(_exported(config, job), like), None
    checkpoint = find_checkpoint(config.checkpoint)
    if config.take == "all":
        return read_step(checkpoint, like)
    if config.take == "model":
        wanted = {name: like[name] for name in ("params", "ema", "statistics")}
        found, _ = read_step(checkpoint, wanted | ({"discriminator": _discriminator(like)} if "discriminator" in like else {}))
        return found, None
    source = {"weights": "params", "average": "ema"}[config.take]
    # Weights of other types than the config's are weights all the same.
    types = {leaf.name: leaf.dtype for leaf in checkpoint_contents.leaves(checkpoint)}
    typed = lambda path, leaf: leaf.update(dtype=types.get(checkpoint_contents.name_of(path), leaf.dtype))
    found, _ = read_step(checkpoint, jax.tree_util.tree_map_with_path(typed, {source: like[source]}))
    return _weights_and_average(found[source], like), None


def _discriminator(like: State) -> State:
    return {"params": like["discriminator"]["params"]}


def _weights_and_average(weights: Any, like: State) -> State:
    """Both of one tree, in the types of each and in buffers of their own: the step is given them to write into."""
    wanted = {name: like[name] for name in ("params", "ema")}
    layout = jax.tree.map(lambda leaf: leaf.sharding, wanted)
    typed = lambda weights: {
        name: jax.tree.map(lambda new, leaf: jnp.array(new, leaf.dtype, copy=True), weights, tree) for name, tree in wanted.items()
    }
    return jax.jit(typed, out_shardings=layout)(weights)


def _is_exported(place: epath.PathLike) -> bool:
    return any((epath.Path(place) / name).exists() for name in (interchange.WEIGHTS, interchange.INDEX))


def _exported(config: StartConfig, job: Job) -> Any:
    if not isinstance(job.model, DiTModel):
        raise UserError(f"start.checkpoint is {config.checkpoint!r}, an exported transformer, expected a VAE's workdir or checkpoint")
    if config.take != "weights":
        raise UserError(
            f"start.take is {config.take!r}, expected 'weights': start.checkpoint={config.checkpoint!r} is an exported transformer, which "
            "holds nothing else"
        )
    return load_dit_start(config.checkpoint, job.model)


def find_checkpoint(place: epath.PathLike) -> epath.Path:
    """The checkpoint at `place`: itself, or a workdir's newest. Raises UserError where there is none."""
    path = epath.Path(place)
    if checkpoint_contents.is_checkpoint(path):
        return path
    steps = checkpoint_contents.finished_steps(path)
    if not steps:
        raise UserError(
            f"start.checkpoint is {os.fspath(place)!r}, expected a workdir with a checkpoint, a checkpoint's directory, or what "
            "`videodit export` wrote"
        )
    return path / "checkpoints" / str(steps[-1])

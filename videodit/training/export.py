"""A trained transformer as safetensors: `videodit export`."""

import os
from typing import Any

from etils import epath
import jax

from videodit.core.config import read_config
from videodit.core.errors import UserError
from videodit.models.dit.interchange import export_dit
from videodit.models.dit.model import DiT
from videodit.training.checkpoints import restore_weights
from videodit.training.config import read_experiment


def export(workdir: epath.PathLike, directory: epath.PathLike) -> dict[str, Any]:
    """Writes the averaged weights of a workdir's newest checkpoint in the layout of `models/dit/interchange.py`.

    Raises UserError where the workdir holds another model, or the directory already holds one.
    """
    config = read_experiment(read_config(workdir))
    if config.model != "dit":
        raise UserError(f"{os.fspath(workdir)!r} holds a {config.model}: expected a transformer's workdir")
    if (epath.Path(directory) / "config.json").exists():
        raise UserError(f"{os.fspath(directory)!r} already holds an exported transformer: name another directory")
    weights, step = restore_weights(workdir)
    params = weights["ema"]
    # What latents and tokenizer a transformer is for shows in its weights.
    patch_channels, vocabulary = params["head"]["kernel"].shape[1], params["text_embed"]["embedding"].shape[0]
    export_dit(directory, DiT(config.dit, patch_channels, vocabulary), params)
    return {"output": os.fspath(directory), "step": step, "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}

"""A trained transformer as safetensors: `videodit export`."""

import os
from typing import Any

from etils import epath
import jax

from videodit.core.config import read_config
from videodit.core.errors import UserError
from videodit.models.dit.interchange import export_dit
from videodit.models.dit.model import DiT
from videodit.models.text.config import TextConfig
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.source import TOKENIZER
from videodit.training.checkpoints import restore_weights
from videodit.training.config import latents_path, read_experiment


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
    # What latents and text a transformer is for shows in its weights.
    export_dit(directory, DiT(config.dit, params["head"]["kernel"].shape[1], _text_of(params["text_embed"], config.text)), params)
    tokenizer = latents_path(config, workdir) / TOKENIZER
    if tokenizer.exists():
        tokenizer.copy(epath.Path(directory) / TOKENIZER)
    return {"output": os.fspath(directory), "step": step, "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def _text_of(params: Any, config: TextConfig) -> TextEmbedderConfig:
    """The embedder whose parameters these are."""
    if "embedding" in params:
        ids, vocabulary, _ = params["embedding"].shape
        return TextEmbedderConfig(ids=ids, vocabulary=vocabulary, refiner=config.refiner)
    widths = tuple(params[f"project{number}"]["kernel"].shape[0] for number in range(len(config.encoders)))
    return TextEmbedderConfig(widths=widths, refiner=config.refiner)

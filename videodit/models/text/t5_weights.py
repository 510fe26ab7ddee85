"""Public weights of T5's family: safetensors in the layout of transformers, in one file or several, alone or in a diffusers pipeline."""

from collections.abc import Iterable, Iterator
import contextlib
import json
import os
import tempfile
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from videodit.core.errors import UserError
from videodit.models.text.t5 import T5Config, T5Encoder, t5_config

_WEIGHTS, _INDEX, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")  # two names of one tensor; files hold either or both
_NOT_ENCODER = ("decoder.", "lm_head.")
_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_BLOCK_TENSORS = {
    "layer.0.layer_norm": "attention_norm/scale",
    "layer.0.SelfAttention.q": "query/kernel",
    "layer.0.SelfAttention.k": "key/kernel",
    "layer.0.SelfAttention.v": "value/kernel",
    "layer.0.SelfAttention.o": "attention_out/kernel",
    "layer.1.layer_norm": "mlp_norm/scale",
    "layer.1.DenseReluDense.wo": "down/kernel",
}


def encoder_directory(path: epath.PathLike) -> epath.Path:
    """The directory of `config.json`: `path`, its `text_encoder`, or where the file `path` lies. Raises UserError where there is none."""
    path = epath.Path(path)
    tried = [path.parent] if path.suffix == ".safetensors" else [path, path / "text_encoder"]
    for directory in tried:
        if (directory / _CONFIG).exists():
            return directory
    raise UserError(f"text encoder {os.fspath(path)!r} has no {_CONFIG} in {' or '.join(repr(os.fspath(each)) for each in tried)}")


def load_t5(path: epath.PathLike, dtype: str = "float32") -> tuple[T5Config, dict[str, Any]]:
    """Reads a T5, mT5, ByT5 or UMT5 encoder: its config and T5Encoder's `params`, in `dtype`, norms and biases in float32.

    Args:
      path: a safetensors file with its config.json beside it; a directory that transformers' `save_pretrained` wrote, in one file or in
        shards; or a diffusers pipeline, whose `text_encoder` is read. Of an encoder with a decoder, the encoder is read.
      dtype: "float32" or "bfloat16", of weights and products.

    Raises UserError where it is something else, a file is missing, or tensors are missing, left over or of another shape.
    """
    config = t5_config(json.loads((encoder_directory(path) / _CONFIG).read_text()), dtype)
    return config, params_from_t5((tensor for file in encoder_files(path) for tensor in _tensors(file)), config)


def encoder_files(path: epath.PathLike) -> list[epath.Path]:
    """The safetensors files of an encoder, as `load_t5` finds them. Raises UserError where one is missing."""
    path = epath.Path(path)
    return [path] if path.suffix == ".safetensors" else _files(encoder_directory(path))


def _files(directory: epath.Path) -> list[epath.Path]:
    """The safetensors files that hold tensors of the encoder."""
    if (directory / _WEIGHTS).exists():
        return [directory / _WEIGHTS]
    if not (directory / _INDEX).exists():
        raise UserError(f"text encoder {os.fspath(directory)!r} holds neither {_WEIGHTS} nor {_INDEX}: save it as safetensors")
    shards = json.loads((directory / _INDEX).read_text())["weight_map"]
    files = [directory / shard for shard in sorted({shard for name, shard in shards.items() if not name.startswith(_NOT_ENCODER)})]
    for file in files:
        if not file.exists():
            raise UserError(f"text encoder {os.fspath(directory)!r} lacks {file.name!r}, which its {_INDEX} names")
    return files


def _tensors(file: epath.Path) -> Iterator[tuple[str, np.ndarray]]:
    """(name, tensor) of the encoder's tensors, read one after another: the largest encoders have 10 GB a file."""
    with contextlib.ExitStack() as stack:
        local = os.fspath(file)
        if not os.path.exists(local):  # in a bucket
            local = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), file.name)
            file.copy(local)
        try:
            opened = stack.enter_context(safe_open(local, framework="np"))
        except SafetensorError as error:
            raise UserError(f"text encoder {os.fspath(file)!r} is no safetensors file, or cut off: {error}") from error
        for name in opened.keys():
            if not name.startswith(_NOT_ENCODER):
                yield name, opened.get_tensor(name)


def params_from_t5(tensors: Iterable[tuple[str, np.ndarray]], config: T5Config) -> dict[str, Any]:
    """T5Encoder's `params` from named tensors in any order. Raises UserError that names what is missing, left over or of another shape."""
    ids, mask = jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, 1), jnp.bool)
    shapes = jax.eval_shape(T5Encoder(config).init, jax.random.key(0), ids, mask)["params"]
    params = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    places = _places(params, config)
    missing, left = set(places), set()
    for name, tensor in tensors:
        known = _EMBEDDING[0] if name in _EMBEDDING else name
        if known not in places:
            left.add(name)
            continue
        if tensor.shape != places[known].shape:
            raise UserError(f"the text encoder's tensor {name!r} is {tensor.shape}, expected {places[known].shape} by its config.json")
        places[known][...] = tensor
        missing.discard(known)
    if missing:
        raise UserError(f"the text encoder lacks {len(missing)} tensors that its config.json asks for, {min(missing)!r} among them")
    if left:
        raise UserError(f"the text encoder has {len(left)} tensors that its config.json has no place for, {min(left)!r} among them")
    return params


def _places(params: dict[str, Any], config: T5Config) -> dict[str, np.ndarray]:
    """Where each of their tensors goes: views into `params`, in their layout."""
    mlp = {"wi_0": "gate/kernel", "wi_1": "up/kernel"} if config.gated else {"wi": "up/kernel"}
    block = _BLOCK_TENSORS | {f"layer.1.DenseReluDense.{theirs}": ours for theirs, ours in mlp.items()}
    places = {_EMBEDDING[0]: params["token_embed"]["embedding"], "encoder.final_layer_norm.weight": params["final_norm"]["scale"]}
    for layer in range(config.depth):
        prefix = f"encoder.block.{layer}."
        for theirs, ours in block.items():
            module, leaf = ours.split("/")
            places[f"{prefix}{theirs}.weight"] = params["blocks"][module][leaf][layer].T
        if config.bias_per_layer:
            places[f"{prefix}{_BIAS}"] = params["blocks"]["relative_bias"][layer]
    if not config.bias_per_layer:
        places[f"encoder.block.0.{_BIAS}"] = params["relative_bias"]
    return places

"""The transformer as safetensors, so that a checkpoint can leave and come back.

Layout, of a directory:

    config.json                      format, the fields of DiTConfig, patch_channels, the fields of TextEmbedderConfig
    model.safetensors                or model-00001-of-0000N.safetensors and model.safetensors.index.json, as Hugging Face splits them

Names and shapes are those that PyTorch would give: `blocks.0.qkv.weight` is `[out, in]`, `blocks.0.modulation_bias` is `[3 * width]`.
Queries, keys and values lie one after another along `qkv`'s outputs, a head after another in each. All are float32.

The text is under `text_embed`: `weight` is `[ids, vocabulary, width]`, a table for each of a token's ids. Where a token has several (a word
of bytes), their rows but for id 0 are summed, `bias` is added, and SiLU and `out` follow. Of public encoders' embeddings, part i is
normalised by `norm{i}.scale` (RMS) and projected by `project{i}`. `refiner.block{i}` are the refiner's blocks: `query`, `key`, `value`,
`attention_out`, `gate`, `up`, `down`, and the scales of their norms. `videodit export` puts the sentencepiece model that text was cut into
tokens with, if any, beside them as `tokenizer.model`.
"""

from collections.abc import Iterator
import dataclasses
import json
from typing import Any

from etils import epath
import jax
import numpy as np
from safetensors.numpy import load, save

from videodit.core.config import read
from videodit.core.errors import UserError
from videodit.models.dit.model import DiT, DiTConfig, init_parameters
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.sharding.rules import path_name

FORMAT = 2
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_SHARD = 5 * 10**9  # bytes of a file, where there are several


def export_dit(directory: epath.PathLike, model: DiT, params: Any, *, shard: int = _SHARD) -> None:
    """Writes `params` of `model`; the config comes last, so a directory that has one is whole. Files hold at most `shard` bytes, or one
    array."""
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, array in _flat(params):
        if shards[-1] and sum(each.nbytes for each in shards[-1].values()) + array.nbytes > shard:
            shards.append({})
        shards[-1][name] = array
    if len(shards) == 1:
        (directory / WEIGHTS).write_bytes(save(shards[0], metadata={"format": "pt"}))
    else:
        names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
        for name, arrays in zip(names, shards):
            (directory / name).write_bytes(save(arrays, metadata={"format": "pt"}))
        total = sum(array.nbytes for arrays in shards for array in arrays.values())
        where = {array: name for name, arrays in zip(names, shards) for array in arrays}
        (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1))
    said = {
        "format": FORMAT,
        "dit": dataclasses.asdict(model.config),
        "patch_channels": model.patch_channels,
        "text": dataclasses.asdict(model.text),
    }
    (directory / CONFIG).write_text(json.dumps(said, indent=1))


def import_dit(directory: epath.PathLike) -> tuple[DiT, Any]:
    """The model and its parameters, as numpy arrays, that `export_dit` wrote.

    Raises UserError where the directory holds none, and where arrays are missing, unknown or of the wrong shape.
    """
    directory = epath.Path(directory)
    if not (directory / CONFIG).exists():
        raise UserError(f"{str(directory)!r} holds no exported transformer: expected {CONFIG} and {WEIGHTS} in it")
    said = json.loads((directory / CONFIG).read_text())
    if said.get("format") != FORMAT:
        raise UserError(f"{str(directory / CONFIG)!r} has format {said.get('format')!r}, expected {FORMAT}")
    model = DiT(read(DiTConfig, said["dit"], "dit"), said["patch_channels"], read(TextEmbedderConfig, said["text"], "text"))
    arrays = _arrays(directory)
    shapes = parameter_shapes(model)
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        leaves.append(_take(arrays, path_name(path), leaf.shape))
    if arrays:
        raise UserError(f"{str(directory)!r} holds {len(arrays)} arrays that its config knows nothing of, {min(arrays)!r} among them")
    return model, jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def parameter_shapes(model: DiT) -> Any:
    """The tree of the model's parameters as shapes."""
    return jax.eval_shape(lambda: init_parameters(model, jax.random.key(0)))


def _arrays(directory: epath.Path) -> dict[str, np.ndarray]:
    files = [WEIGHTS]
    if (directory / INDEX).exists():
        files = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
    missing = [name for name in files if not (directory / name).exists()]
    if missing:
        raise UserError(f"{str(directory)!r} lacks {missing[0]!r}: expected the files {', '.join(files)}")
    return {name: array for file in files for name, array in load((directory / file).read_bytes()).items()}


def _flat(params: Any) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, array = path_name(path), np.asarray(leaf, np.float32)
        if name.startswith("blocks/"):
            for number, layer in enumerate(array):
                yield _outer(name, number), _turned(name, layer)
        else:
            yield _outer(name), _turned(name, array)


def _outer(name: str, layer: int | None = None) -> str:
    """A parameter's name outside: `blocks/qkv/kernel` of layer 0 is `blocks.0.qkv.weight`."""
    name = name.removesuffix("/kernel") + "/weight" if name.endswith("/kernel") else name
    name = name.removesuffix("/embedding") + "/weight" if name.endswith("/embedding") else name
    parts = name.split("/")
    return ".".join(parts if layer is None else [parts[0], str(layer), *parts[1:]])


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.reshape(len(array), -1).T) if name.endswith("/kernel") else array


def _take(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Removes a parameter from `arrays` and returns it as it is inside."""

    def one(layer: int | None, wanted: tuple[int, ...]) -> np.ndarray:
        outer = _outer(name, layer)
        if outer not in arrays:
            raise UserError(f"the exported transformer lacks {outer!r}")
        found, asked = arrays.pop(outer), _turned(name, np.empty(wanted, np.void)).shape
        if found.shape != asked:
            raise UserError(f"{outer!r} has shape {list(found.shape)}, its config asks for {list(asked)}")
        return _turned(name, found).reshape(wanted)

    if not name.startswith("blocks/"):
        return one(None, shape)
    return np.stack([one(layer, shape[1:]) for layer in range(shape[0])])

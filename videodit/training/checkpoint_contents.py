"""What a checkpoint directory holds, read without any model's code: names, shapes, arrays and a fingerprint of the weights."""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import hashlib
import json
import math
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from videodit.core.files import whole_path
from videodit.training.checksums import FILE as CHECKSUMS

# Arrays are read in groups of about this size, so that memory does not grow with the model.
_GROUP_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf:
    """One array of a checkpoint's state; `name` is its path in the tree, e.g. `params/blocks/attention/kernel`.

    `sharding` says how it lay on the mesh that saved it, e.g. `fsdp x tensor of data=1 fsdp=4 tensor=2 context=1`; "" where it lay whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sharding: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * jax.numpy.dtype(self.dtype).itemsize


def finished_steps(workdir: epath.PathLike) -> list[int]:
    """Returns the steps that have a whole checkpoint in `workdir/checkpoints`, in increasing order."""
    folder = epath.Path(workdir) / "checkpoints"
    if not folder.exists():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and is_checkpoint(path))


def unfinished(workdir: epath.PathLike) -> list[str]:
    """The names of what a run that ended while saving left in `workdir/checkpoints`."""
    folder = epath.Path(workdir) / "checkpoints"
    if not folder.exists():
        return []
    names = sorted(path.name for path in folder.iterdir() if path.name.partition(".")[0].isdigit())
    return [name for name in names if ".orbax-checkpoint-tmp" in name or (name.isdigit() and not is_checkpoint(folder / name))]


def is_checkpoint(path: epath.PathLike) -> bool:
    """Says whether `path` is a checkpoint that was written to its end."""
    path = epath.Path(path)
    return (path / "state" / "_METADATA").exists() and ocp.utils.is_checkpoint_finalized(path)


def leaves(checkpoint: epath.PathLike) -> list[Leaf]:
    """Returns the arrays of a checkpoint's state, in the tree's order, without reading them."""
    tree = ocp.PyTreeCheckpointHandler().metadata(_state(checkpoint)).tree
    return [
        Leaf(name=name_of(path), shape=tuple(each.shape), dtype=str(each.dtype), sharding=_sharding(each))
        for path, each in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _sharding(array: Any) -> str:
    saved = getattr(array, "sharding", None)
    if not hasattr(saved, "partition_spec"):
        return ""
    axes = ["+".join([part] if isinstance(part, str) else part) if part else "whole" for part in saved.partition_spec]
    if all(each == "whole" for each in axes):
        return ""
    mesh = " ".join(f"{axis}={size}" for axis, size in zip(saved.axis_names, saved.shape))
    return f"{' x '.join(axes)} of {mesh}"


def restore_like(checkpoint: epath.PathLike, like: Any) -> Any:
    """The arrays of a checkpoint's state that `like`, a tree of shapes or arrays with shardings, has; each laid out as there, read by the
    processes that hold it. What else the checkpoint holds stays unread.
    """
    item = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.PyTreeRestore(item=item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True)
    return ocp.PyTreeCheckpointHandler().restore(_state(checkpoint), args=args)


def read(checkpoint: epath.PathLike, chosen: Sequence[Leaf]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (name, array on the host) for the chosen leaves, in their order."""
    folder = _state(checkpoint)
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(folder).tree
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    for group in _groups(chosen):
        names = {leaf.name for leaf in group}
        # Placeholders mark what stays unread; a list in the tree keeps its length that way.
        item = structure.unflatten([each if name_of(path) in names else ocp.PLACEHOLDER for path, each in paths])
        found = handler.restore(folder, args=ocp.args.PyTreeRestore(item=item, restore_args=as_numpy))
        arrays = {name_of(path): each for path, each in jax.tree_util.tree_leaves_with_path(found)}
        for leaf in group:
            yield leaf.name, arrays[leaf.name]


def _state(checkpoint: epath.PathLike) -> epath.Path:
    return whole_path(epath.Path(checkpoint) / "state")  # as orbax wants it


def read_position(checkpoint: epath.PathLike) -> Any:
    """The data position that was saved with the weights, as `data_position`. Raises where it cannot be read."""
    return json.loads((epath.Path(checkpoint) / "data" / "metadata").read_text())


def read_checksums(checkpoint: epath.PathLike) -> dict[str, int] | None:
    """The checksums that were saved with the weights; None where the checkpoint is older than these. Raises where they cannot be read."""
    path = epath.Path(checkpoint) / "checksums" / CHECKSUMS
    return json.loads(path.read_text()) if path.exists() else None


def name_of(path: tuple[Any, ...]) -> str:
    """The name of a leaf at a path of the tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _groups(chosen: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    group, size = [], 0
    for leaf in chosen:
        if group and size + leaf.bytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(leaf)
        size += leaf.bytes
    if group:
        yield group


def fingerprint(named_arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """Returns the SHA-256, as 64 hex digits, over name, dtype, shape and little-endian bytes of each array, in the order given."""
    digest = hashlib.sha256()
    for name, array in named_arrays:
        array = np.asarray(array)
        digest.update(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def fingerprint_weights(checkpoint: epath.PathLike) -> str:
    """Returns the fingerprint of a checkpoint's weights, `state["params"]`, in the order of their names."""
    weights = sorted((leaf for leaf in leaves(checkpoint) if leaf.name.startswith("params/")), key=lambda leaf: leaf.name)
    return fingerprint((name.removeprefix("params/"), array) for name, array in read(checkpoint, weights))


def data_position(checkpoint: epath.PathLike) -> Any:
    """Returns the position of the data iterator that was saved with the weights, as JSON values; None where there is none."""
    folder = epath.Path(checkpoint) / "data"
    if not folder.exists():
        return None
    found = {}
    for path in sorted(folder.iterdir(), key=lambda each: each.name):
        try:
            found[path.name] = json.loads(path.read_text())
        except (ValueError, UnicodeDecodeError, IsADirectoryError):
            continue  # markers of the checkpoint library
    return found.get("metadata", found) or None

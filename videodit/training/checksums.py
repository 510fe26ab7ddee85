"""Sums over the bits of a checkpoint, saved with it: storage that gives back other bits is noticed.

They do not depend on how the arrays are laid out over devices, so that they hold on another mesh too.
"""

from collections.abc import Callable
import dataclasses
import json
from typing import Any
import zlib

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from videodit.sharding.rules import path_name

FILE = "checksums.json"


@jax.jit
def checksums(state: Any) -> jax.Array:
    """Sums modulo 2^32 of the words of each array of `state`, uint32 in the tree's order; computed where the arrays are."""
    return jnp.stack([_sum(leaf) for leaf in jax.tree.leaves(state)])


def _sum(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return bits.astype(jnp.uint32).sum(dtype=jnp.uint32)


def checksums_on_host(state: Any) -> np.ndarray:
    """What `checksums` gives, for arrays of which this host holds all."""
    words = (np.ascontiguousarray(leaf).view(f"u{leaf.dtype.itemsize}") for leaf in jax.tree.leaves(state))
    return np.stack([each.sum(dtype=np.uint32) for each in words])


def by_name(sums: jax.Array | np.ndarray, like: Any, position: Any) -> dict[str, int]:
    """`checksums` of a state by the paths of its arrays, and that of the data position as "data". Waits for the devices."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(like)]
    of_arrays = dict(zip(names, np.asarray(sums).tolist(), strict=True))
    return of_arrays | {"data": zlib.crc32(json.dumps(position, sort_keys=True).encode())}


class ChecksumHandler(ocp.AsyncCheckpointHandler):
    """Writes the checksums of an orbax step in the background: nothing waits for the sums."""

    async def async_save(self, directory: epath.Path, args: "SaveChecksums") -> list[ocp.future.Future]:
        async def write():
            if jax.process_index() == 0:
                (directory / FILE).write_text(json.dumps(by_name(args.sums(), args.like, args.position)))

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="checksums")]

    def save(self, directory: epath.Path, args: "SaveChecksums") -> None:
        raise NotImplementedError  # orbax asks for it; steps are saved asynchronously

    def restore(self, directory: epath.Path, args: Any = None) -> dict[str, int]:
        return json.loads((directory / FILE).read_text())


@ocp.args.register_with_handler(ChecksumHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class SaveChecksums(ocp.args.CheckpointArgs):
    """What gives the `checksums` of a state, a tree (of shapes) with the names of what is summed, and the data position."""

    sums: Callable[[], jax.Array | np.ndarray]
    like: Any
    position: Any

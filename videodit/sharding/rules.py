"""Logical axes to mesh axes, and parameter trees to shardings."""

from collections.abc import Mapping, Sequence
import re

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Which mesh axes each logical axis may be split over, tried in order.
LOGICAL_RULES: dict[str, tuple[str, ...]] = {
    "rows": ("data", "fsdp"),  # rows of a packed batch, or clips of a VAE batch
    "length": ("context",),
    "stream": ("context", "tensor"),  # the length, where nothing mixes tokens or heads (Korthikanti et al., "sequence parallelism", 2022)
    "height": ("context",),  # of a VAE batch's frames; XLA exchanges what convolutions need across the borders
    "width": ("tensor",),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
}

AxisNames = Sequence[str | None]


def spec_of(axes: AxisNames, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """The partition of an array by its logical axes; an axis whose size the mesh does not divide stays whole."""
    spec = []
    for name, size in zip(axes, shape, strict=True):
        split: list[str] = []
        for mesh_axis in LOGICAL_RULES.get(name, ()) if name else ():
            ways = mesh.shape[mesh_axis]
            if ways > 1 and size % ways == 0:
                split.append(mesh_axis)
                size //= ways
        spec.append(tuple(split) or None)
    return PartitionSpec(*spec)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Lays an activation out by its logical axes on the mesh that `jax.set_mesh` set; x as it is where there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty or mesh.size == 1 else jax.lax.with_sharding_constraint(x, spec_of(axes, x.shape, mesh))


def path_name(path) -> str:
    """A tree path as `a/b/c`."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def tree_shardings(tree, axes_by_name: Mapping[str, AxisNames], mesh: Mesh):
    """A NamedSharding for each leaf, by the first pattern that ends its path; leaves that none names are whole everywhere.

    It serves optimizer states and averages too: their paths end as the parameters' do.
    """

    def sharding(path, leaf):
        name = path_name(path)
        for pattern, axes in axes_by_name.items():
            if len(axes) == leaf.ndim and re.search(f"(^|/){pattern}$", name):
                return NamedSharding(mesh, spec_of(axes, leaf.shape, mesh))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(sharding, tree)


def process_rows(rows: int, mesh: Mesh) -> list[int]:
    """Which of a batch's rows the devices of this process hold, in increasing order."""
    held = NamedSharding(mesh, spec_of(["rows"], [rows], mesh)).addressable_devices_indices_map((rows,))
    return sorted({row for (part,) in held.values() for row in range(*part.indices(rows))})


def global_batch(batch, rows: Sequence[int], total: int, mesh: Mesh):
    """A batch over all processes, of `total` rows, from the `rows` of it that this process holds."""
    if len(rows) == total:
        return jax.device_put(batch, batch_shardings(batch, mesh))
    place = {row: number for number, row in enumerate(rows)}
    whole = {name: jax.ShapeDtypeStruct((total, *array.shape[1:]), array.dtype) for name, array in batch.items()}

    def build(array, shape, sharding):
        def part(index):
            return array[[place[row] for row in range(*index[0].indices(total))]][(slice(None), *index[1:])]

        return jax.make_array_from_callback(shape.shape, sharding, part)

    return jax.tree.map(build, dict(batch), whole, batch_shardings(whole, mesh))


def batch_shardings(batch, mesh: Mesh):
    """Rows over `data` and `fsdp`; the length of a packed batch over `context`; of pixels, height over `context`, width over `tensor`."""

    def sharding(path, leaf):
        axes = ["rows", None, "height", "width", None] if path_name(path) == "pixels" else ["rows", "length", *[None] * leaf.ndim]
        return NamedSharding(mesh, spec_of(axes[: leaf.ndim], leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding, batch)

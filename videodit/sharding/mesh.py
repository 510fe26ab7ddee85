"""The device mesh: how many devices along each axis, and what is laid along it.

`data` and `fsdp` split rows (and `fsdp` parameters too), `tensor` splits heads and MLP, `context` a row's length. Of several slices of
TPUs, joined by the data centre's network (DCN) alone, each holds a part of `data`: gradients are all that goes from one to another.
"""

from dataclasses import dataclass

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh
import numpy as np

from videodit.core.errors import UserError

AXES = ("data", "fsdp", "tensor", "context")


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices along each axis; -1, for one of them, is what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    context: int = 1


def mesh_shape(config: MeshConfig, devices: int) -> tuple[int, ...]:
    """Devices along each of `AXES` where there are so many. Raises UserError where the axes do not multiply to their number."""
    shape = [getattr(config, axis) for axis in AXES]
    known = int(np.prod([side for side in shape if side != -1]))
    if shape.count(-1) > 1 or any(side < 1 and side != -1 for side in shape) or devices % known or (-1 not in shape and known != devices):
        raise UserError(
            f"mesh {dict(zip(AXES, shape))} does not fit {devices} devices: the axes must multiply to that number, one of them may be -1"
        )
    return tuple(devices // known if side == -1 else side for side in shape)


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """A mesh with axes `AXES` over all devices. Raises UserError where the axes do not multiply to their number, and where `data` is no
    multiple of the number of slices."""
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(config, len(devices))
    types = (AxisType.Auto,) * len(AXES)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    split = {"devices": devices, "allow_split_physical_axes": True}  # an axis may take a part of a side of the slice
    if slices == 1:
        return Mesh(mesh_utils.create_device_mesh(shape, **split), AXES, axis_types=types)
    if shape[0] % slices:
        raise UserError(f"mesh {dict(zip(AXES, shape))} does not fit {slices} slices: expected data to be a multiple of {slices}")
    inside = (shape[0] // slices, *shape[1:])
    return Mesh(mesh_utils.create_hybrid_device_mesh(inside, (slices, 1, 1, 1), **split), AXES, axis_types=types)

"""The device mesh: how many devices along each axis, and what is laid along it.

`data` and `fsdp` split rows (and `fsdp` parameters too), `tensor` splits heads and MLP, `context` a row's length.
"""

from dataclasses import dataclass

import jax
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


def make_mesh(config: MeshConfig, devices: list | None = None) -> Mesh:
    """A mesh with axes `AXES` over all devices. Raises UserError where the axes do not multiply to their number."""
    devices = jax.devices() if devices is None else devices
    shape = [getattr(config, axis) for axis in AXES]
    known = int(np.prod([side for side in shape if side != -1]))
    if (
        shape.count(-1) > 1
        or any(side < 1 and side != -1 for side in shape)
        or len(devices) % known
        or (-1 not in shape and known != len(devices))
    ):
        raise UserError(
            f"mesh {dict(zip(AXES, shape))} does not fit {len(devices)} devices: the axes must multiply to that number, one of them may be -1"
        )
    shape = [len(devices) // known if side == -1 else side for side in shape]
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)

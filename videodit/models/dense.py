"""Dense layers, with a product that XLA compiles well."""

from collections.abc import Sequence
import functools

import flax.linen as nn
import jax

from videodit.sharding.rules import AxisNames, constrain


def dot_general(x, kernel, dimension_numbers, axes: AxisNames | None = None, **options) -> jax.Array:
    """`lax.dot_general` for `nn.DenseGeneral` over the last axis of `x`, over all others at once.

    Kept apart, rows and length make XLA's CPU compiler (jax 0.10.2) turn round and copy the wider factor of each kernel's gradient, and
    what comes before it is computed anew in that order: the product takes twice as long. On a mesh the axes stay, since it splits them.

    There, `axes` are the kernel's logical axes: said here, where it has the product's dtype already, devices gather it in that dtype, and
    its gradient is split in the loop over layers and not behind it, where it would be whole on every device for all layers.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
        return jax.lax.dot_general(x, constrain(kernel, *axes) if axes else kernel, dimension_numbers, **options)
    flat = x.reshape(-1, x.shape[-1]), kernel.reshape(len(kernel), -1)
    return jax.lax.dot_general(*flat, (((1,), (0,)), ((), ())), **options).reshape(*x.shape[:-1], *kernel.shape[1:])


def Dense(features: int | Sequence[int], axes: AxisNames | None = None, **options) -> nn.DenseGeneral:
    """`nn.DenseGeneral`, with several axes of features where a mesh splits one of them. `axes`: the kernel's, as in its `sharding.py`."""
    return nn.DenseGeneral(features, dot_general=functools.partial(dot_general, axes=axes), **options)

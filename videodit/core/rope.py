"""Rotary position embedding over (time, height, width).

RoFormer (Su et al., 2021, eq. 34), one block of frequencies an axis, as video transformers use it.
"""

import jax
import jax.numpy as jnp
import numpy as np


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """How many of a head's `head_dim / 2` rotated pairs belong to time, height and width: a quarter, then halves of the rest."""
    pairs = head_dim // 2
    time = pairs // 4
    height = (pairs - time) // 2
    return time, height, pairs - time - height


def rope_angles(
    positions_BxLx3: jax.Array, extent_BxLx3: jax.Array, head_dim: int, theta: float, trained: tuple[int, int, int]
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of each token's angles, both float32 `[B, L, head_dim / 2]`.

    `extent` is the size of a token's sample along each axis. Where it is more than `trained`, the slowest rotation turns no further over
    the whole sample than it did in training, the fastest stays, and those between follow (NTK-aware interpolation; Peng et al., "YaRN",
    2023, section 3.1).
    """
    positions = positions_BxLx3.astype(jnp.float32)
    angles = []
    for axis, pairs in enumerate(axis_pairs(head_dim)):
        place = jnp.arange(pairs, dtype=jnp.float32)
        stretch = jnp.maximum(1.0, extent_BxLx3[..., axis, None].astype(jnp.float32) / trained[axis])
        rates = theta ** (-place / max(pairs, 1)) * stretch ** (-place / max(pairs - 1, 1))
        angles.append(positions[..., axis, None] * rates)
    angles_BxLxF = jnp.concatenate(angles, axis=-1)
    return jnp.cos(angles_BxLxF), jnp.sin(angles_BxLxF)


def rotate(x_BxLxHxD: jax.Array, cos_BxLxF: jax.Array, sin_BxLxF: jax.Array) -> jax.Array:
    """Turns pair i, made of channels i and i + D / 2, by the token's angle i."""
    twice = lambda angles: jnp.concatenate([angles, angles], axis=-1)[:, :, None].astype(x_BxLxHxD.dtype)
    return x_BxLxHxD * twice(cos_BxLxF) + _quarter_turn(x_BxLxHxD) * twice(sin_BxLxF)


def _quarter_turn(x: jax.Array) -> jax.Array:
    """`(a, b) -> (-b, a)` for the halves of the last axis, as a product with a signed permutation.

    It is exact, and on the CPU several times faster than cutting and joining halves, backward too.
    """
    half = x.shape[-1] // 2
    eye = np.eye(half, dtype=np.float32)
    turn = np.block([[np.zeros((half, half)), eye], [-eye, np.zeros((half, half))]])
    return jnp.matmul(x, jnp.asarray(turn, x.dtype), precision=jax.lax.Precision.HIGHEST)

"""Classifier-free guidance."""

import jax


def guide(conditional: jax.Array, unconditional: jax.Array, scale: float | jax.Array) -> jax.Array:
    """`unconditional + scale * (conditional - unconditional)`: 1 is no guidance. Ho and Salimans (2022), eq. 6 with w = scale - 1."""
    return unconditional + scale * (conditional - unconditional)

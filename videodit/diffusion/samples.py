"""Sums over the samples of packed rows: what one clip's loss weight or guidance needs to know of that clip alone."""

import jax
import jax.numpy as jnp


def sum_over_samples(values_BxL: jax.Array, segment_ids_BxL: jax.Array) -> jax.Array:
    """`[B, L]`: for each token the sum of `values` over the tokens of its own sample; 0 at padding. Segment ids are at most L."""
    rows, length = segment_ids_BxL.shape
    totals = jnp.zeros((rows, length + 1), values_BxL.dtype).at[jnp.arange(rows)[:, None], segment_ids_BxL].add(values_BxL)
    return jnp.take_along_axis(totals.at[:, 0].set(0), segment_ids_BxL, axis=1)

"""Sums over the samples of packed rows: what one clip's loss weight or guidance needs to know of that clip alone."""

import jax
import jax.numpy as jnp


def sum_over_samples(values_BxL: jax.Array, segment_ids_BxL: jax.Array) -> jax.Array:
    """`[B, L]`: for each token the sum of `values` over the tokens of its own sample; 0 at padding. Segment ids are at most L."""

    def of_row(values, segment_ids):
        totals = jnp.zeros(len(values) + 1, values.dtype).at[segment_ids].add(values)
        return totals.at[0].set(0)[segment_ids]

    return jax.vmap(of_row)(values_BxL, segment_ids_BxL)  # row by row, so that rows may lie on any device

"""Arithmetic on segment ids: 0 is padding, and tokens with equal ids belong to one sample."""

import jax
import jax.numpy as jnp

PADDING, TEXT, PATCH = 0, 1, 2  # a token's modality


def text_name(part: int) -> str:
    """What a packed batch calls a part of its text, the tokens of one encoder."""
    return f"text_{part}"


def visible(segment_ids_BxL: jax.Array) -> jax.Array:
    """`bool [B, L, L]`: may token i see token j? Only where both are of one sample."""
    ids = segment_ids_BxL
    return (ids[:, :, None] == ids[:, None, :]) & (ids[:, :, None] != 0)


def spread(values_BxS: jax.Array, segment_ids_BxL: jax.Array) -> jax.Array:
    """`[B, S]` values a segment (id 1 first) -> `[B, L]` values a token; padding gets 0."""
    padded = jnp.pad(values_BxS, ((0, 0), (1, 0)))
    return jnp.take_along_axis(padded, segment_ids_BxL, axis=1)


def pairs_within(segment_ids_BxL: jax.Array) -> jax.Array:
    """How many (query, key) pairs meet inside segments, summed over the batch: what attention is owed, as float32."""
    return visible(segment_ids_BxL).sum(dtype=jnp.float32)

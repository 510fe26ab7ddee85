"""Packed attention in plain JAX: right everywhere, and the form that every kernel is held against."""

import jax
import jax.numpy as jnp

from videodit.core.segments import visible

MASKED = -1e9  # finite, so that a row of padding gives numbers and not NaN


def packed_attention(q_BxLxHxD: jax.Array, k_BxLxHxD: jax.Array, v_BxLxHxD: jax.Array, segment_ids_BxL: jax.Array) -> jax.Array:
    """Softmax attention in which a token sees exactly the tokens of its own segment.

    Logits and softmax are float32, scaled by `D ** -0.5`. What padding (segment 0) returns has no meaning.
    Returns `[B, L, H, D]` in q's dtype.
    """
    scale = q_BxLxHxD.shape[-1] ** -0.5
    logits = jnp.einsum("bqhd,bkhd->bhqk", q_BxLxHxD * scale, k_BxLxHxD, preferred_element_type=jnp.float32)
    logits = jnp.where(visible(segment_ids_BxL)[:, None], logits, MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(v_BxLxHxD.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v_BxLxHxD)

"""Packed attention in plain JAX over whole rows: right everywhere, and what every other form is held against."""

import jax
import jax.numpy as jnp

MASKED = -1e9  # finite, so that a row of padding gives numbers and not NaN


def reference_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM) -> jax.Array:
    """As `packed_attention`, in `O(L M)` memory."""
    scale = q_BxLxHxD.shape[-1] ** -0.5
    logits = jnp.einsum("bqhd,bkhd->bhqk", q_BxLxHxD * scale, k_BxMxHxD, preferred_element_type=jnp.float32)
    visible = (query_ids_BxL[:, :, None] == key_ids_BxM[:, None, :]) & (query_ids_BxL[:, :, None] != 0)
    logits = jnp.where(visible[:, None], logits, MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(v_BxMxHxD.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v_BxMxHxD)

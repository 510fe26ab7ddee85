"""Packed attention in plain JAX whose cost follows the clips and not the row: block by block, those that cannot meet left out.

FlashAttention-2 (Dao, 2023), algorithms 1 and 2, with the keys of each block of queries bounded by the plan: since segments lie one after
another, the keys' blocks that a block of queries can meet lie one after another too. What is kept for the backward pass is `O(L)`.
"""

import jax
from jax import lax
import jax.numpy as jnp

from videodit.attention.reference import MASKED

BLOCK = 128  # tokens along a block's side: what ran fastest on two cores (experiments/benchmarks/attention.py)


def blocked_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, with `live` of its plan; nothing here is interpreted."""
    del interpret
    length, (_, queries, keys) = q_BxLxHxD.shape[1], live.shape
    fill = lambda x, blocks: jnp.pad(x, ((0, 0), (0, blocks * BLOCK - x.shape[1]), *((0, 0) for _ in x.shape[2:])))
    first, stop = jnp.moveaxis(bounds(live, 2), -1, 0)
    q, k, v = ((fill(x, n).swapaxes(1, 2)) for x, n in ((q_BxLxHxD, queries), (k_BxMxHxD, keys), (v_BxMxHxD, keys)))
    ids = fill(query_ids_BxL, queries), fill(key_ids_BxM, keys)
    return _attend(q * q.shape[-1] ** -0.5, k, v, *ids, first, stop).swapaxes(1, 2)[:, :length]


def bounds(live: jax.Array, axis: int) -> jax.Array:
    """int32 `[B, n, 2]`: the first block that lives along `axis`, and the one after the last; equal where none does."""
    count, some = live.shape[axis], live.any(axis)
    first = jnp.where(some, live.argmax(axis), 0)
    return jnp.stack([first, jnp.where(some, count - jnp.flip(live, axis).argmax(axis), 0)], axis=-1).astype(jnp.int32)


def _of_block(x, row, number):
    """Block `number` of a row of `[B, H, L, ...]`: `[H, BLOCK, ...]`."""
    return lax.dynamic_slice_in_dim(lax.dynamic_index_in_dim(x, row, keepdims=False), number * BLOCK, BLOCK, axis=1)


def _ids_of_block(ids, row, number):
    return lax.dynamic_slice(ids, (row, number * BLOCK), (1, BLOCK))[0]


def _put(x, part, row, number):
    return lax.dynamic_update_slice(x, part[None], (row, 0, number * BLOCK, *(0 for _ in part.shape[2:])))


def _logits(q, k, ids_q, ids_k):
    logits = jnp.einsum("hqd,hkd->hqk", q, k, preferred_element_type=jnp.float32)
    return jnp.where((ids_q[:, None] == ids_k[None, :]) & (ids_q[:, None] != 0), logits, MASKED)


def _forward_blocks(q, k, v, query_ids, key_ids, first, stop):
    """Attention `[B, H, L, D]` and the logarithm of each query's sum of exponentials, `[B, H, L]`."""
    (batch, heads, length, width), count = q.shape, first.shape[1]

    def of_queries(n, carry):
        out, sums = carry
        row, i = n // count, n % count
        q_i, ids_i = _of_block(q, row, i), _ids_of_block(query_ids, row, i)

        def of_keys(j, carry):
            most, total, mixed = carry
            logits = _logits(q_i, _of_block(k, row, j), ids_i, _ids_of_block(key_ids, row, j))
            new = jnp.maximum(most, logits.max(-1))
            weights, fade = jnp.exp(logits - new[..., None]), jnp.exp(most - new)
            seen = jnp.einsum("hqk,hkd->hqd", weights.astype(v.dtype), _of_block(v, row, j), preferred_element_type=jnp.float32)
            return new, total * fade + weights.sum(-1), mixed * fade[..., None] + seen

        zeros = jnp.zeros((heads, BLOCK))
        carry = zeros + MASKED, zeros, jnp.zeros((heads, BLOCK, width))
        most, total, mixed = lax.fori_loop(first[row, i], stop[row, i], of_keys, carry)
        total = jnp.maximum(total, 1e-30)  # of a block of padding
        return _put(out, (mixed / total[..., None]).astype(q.dtype), row, i), _put(sums, most + jnp.log(total), row, i)

    carry = jnp.zeros_like(q), jnp.zeros((batch, heads, length), jnp.float32)
    return lax.fori_loop(0, batch * count, of_queries, carry)


@jax.custom_vjp
def _attend(q, k, v, query_ids, key_ids, first, stop):
    return _forward_blocks(q, k, v, query_ids, key_ids, first, stop)[0]


def _attend_forward(q, k, v, query_ids, key_ids, first, stop):
    out, sums = _forward_blocks(q, k, v, query_ids, key_ids, first, stop)
    return out, (q, k, v, query_ids, key_ids, first, stop, out, sums)


def _attend_backward(kept, gradient):
    q, k, v, query_ids, key_ids, first, stop, out, sums = kept
    batch, count = first.shape
    drift = (out.astype(jnp.float32) * gradient).sum(-1)
    product = lambda how, a, b: jnp.einsum(how, a.astype(q.dtype), b, preferred_element_type=jnp.float32)

    def of_queries(n, carry):
        dq, dk, dv = carry
        row, i = n // count, n % count
        ids_i = _ids_of_block(query_ids, row, i)
        q_i, gradient_i, sums_i, drift_i = (_of_block(x, row, i) for x in (q, gradient, sums, drift))

        def of_keys(j, carry):
            dq_i, dk, dv = carry
            k_j, v_j = _of_block(k, row, j), _of_block(v, row, j)
            weights = jnp.exp(_logits(q_i, k_j, ids_i, _ids_of_block(key_ids, row, j)) - sums_i[..., None])
            back = weights * (product("hqd,hkd->hqk", gradient_i, v_j) - drift_i[..., None])
            dv = _put(dv, _of_block(dv, row, j) + product("hqk,hqd->hkd", weights, gradient_i), row, j)
            dk = _put(dk, _of_block(dk, row, j) + product("hqk,hqd->hkd", back, q_i), row, j)
            return dq_i + product("hqk,hkd->hqd", back, k_j), dk, dv

        dq_i, dk, dv = lax.fori_loop(first[row, i], stop[row, i], of_keys, (jnp.zeros(q_i.shape), dk, dv))
        return _put(dq, dq_i.astype(q.dtype), row, i), dk, dv

    zeros = jnp.zeros(k.shape, jnp.float32)
    dq, dk, dv = lax.fori_loop(0, batch * count, of_queries, (jnp.zeros_like(q), zeros, zeros))
    return dq, dk.astype(k.dtype), dv.astype(v.dtype), None, None, None, None


_attend.defvjp(_attend_forward, _attend_backward)

"""Packed attention in plain JAX whose cost follows the clips and not the row: blocks of queries, each with the keys of its own clips alone.

FlashAttention-2 (Dao, 2023), algorithms 1 and 2, in which blocks begin where clips do and not on a grid: a block of queries ends with its
clip, or holds several short clips whole, and it meets one stretch of keys, from the first to the last that any of it sees. What is kept for
the backward pass is `O(L)`.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from videodit.attention.names import kept
from videodit.attention.reference import MASKED

# Sides of a block of queries, and of the parts of its keys: two of each, since products of small matrices are slow and large blocks of
# short clips are mostly masked. What ran fastest on two cores (experiments/benchmarks/attention.py).
_QUERIES, _KEYS = (256, 128), (512, 128)
_UNSEEN = -MASKED  # as a sum of exponentials' logarithm: such a query gives nothing to any key


def blocked_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans, *, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, with `spans` of its plan; nothing here is interpreted."""
    del interpret
    out = _attend(*_joined_all(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans), _runs(query_ids_BxL), len(q_BxLxHxD))
    return _apart(out, q_BxLxHxD.shape)


def forward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans, *, interpret: bool = False):
    """As `ring.Part.forward`."""
    del interpret
    joined = _joined_all(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans)
    out, sums = _forward_blocks(*joined, _runs(query_ids_BxL), len(q_BxLxHxD))
    return _apart(out, q_BxLxHxD.shape), _apart(sums, q_BxLxHxD.shape[:3]).swapaxes(1, 2)


def backward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans, out, sums, gradient, *, interpret: bool = False):
    """As `ring.Part.backward`."""
    del interpret
    joined = _joined_all(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans)
    out, sums, gradient = (_joined(x, _QUERIES[0]) for x in (out, sums.swapaxes(1, 2), gradient))
    dq, dk, dv, *_ = _attend_backward(len(q_BxLxHxD), (*joined, _runs(query_ids_BxL), out, sums), gradient)
    return _apart(dq, q_BxLxHxD.shape) * q_BxLxHxD.shape[-1] ** -0.5, _apart(dk, k_BxMxHxD.shape), _apart(dv, k_BxMxHxD.shape)


def _joined(x, more: int):
    """`[B, L, H, ...]` as `[H, B L + more, ...]`, or `[B, L]` as `[B L + more]`: rows one after another, so that every slice fits."""
    x = jnp.pad(x.reshape(-1, *x.shape[2:]), ((0, more), *((0, 0) for _ in x.shape[2:])))
    return x.swapaxes(0, 1) if x.ndim > 1 else x


def _apart(x, shape):
    return x[:, : shape[0] * shape[1]].swapaxes(0, 1).reshape(shape)


def _joined_all(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, spans):
    (rows, length, _, width), keys = q_BxLxHxD.shape, k_BxMxHxD.shape[1]
    row_of = jnp.arange(rows, dtype=jnp.int32)[:, None, None]
    spans = _joined((spans + row_of * keys).reshape(rows, length, 2), _QUERIES[0])
    ids = _joined(query_ids_BxL, _QUERIES[0]), _joined(key_ids_BxM, _KEYS[0])
    return _joined(q_BxLxHxD * width**-0.5, _QUERIES[0]), _joined(k_BxMxHxD, _KEYS[0]), _joined(v_BxMxHxD, _KEYS[0]), *ids, spans


def spans_in(spans, at, parts: int, keys: int):
    """Of `key_spans`, those in part `at` of the keys, which has so many."""
    del parts
    return jnp.clip(spans - at * keys, 0, keys)


def key_spans(segment_ids_BxL: jax.Array) -> jax.Array:
    """int32 `[B, L, 2]`: the first token that each token sees, and the one after the last; (L, 0) at padding.

    Of segments that lie one after another these are where the token's own begins and ends.
    """
    rows, length = segment_ids_BxL.shape
    order = jnp.argsort(segment_ids_BxL, axis=1, stable=True).astype(jnp.int32)
    begins, stops = _runs(jnp.take_along_axis(segment_ids_BxL, order, axis=1))
    offset = jnp.arange(rows, dtype=jnp.int32)[:, None] * length
    ends = lambda at: jnp.take_along_axis(order, at[: rows * length].reshape(rows, length) - offset, axis=1)
    sorted_spans = jnp.stack([ends(begins), ends(stops - 1) + 1], axis=-1)
    spans = jnp.zeros_like(sorted_spans).at[jnp.arange(rows)[:, None], order].set(sorted_spans)
    return jnp.where(segment_ids_BxL[..., None] == 0, jnp.array([length, 0], jnp.int32), spans)


def _runs(ids_BxL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int32 `[B L + 1]` each: where the run of equal ids that each token is in begins and stops, counting over all rows; no run goes on in
    the next row. The last belongs to no token."""
    rows, length = ids_BxL.shape
    place = jnp.arange(rows * length, dtype=jnp.int32).reshape(rows, length)
    starts = jnp.concatenate([jnp.ones((rows, 1), bool), ids_BxL[:, 1:] != ids_BxL[:, :-1]], axis=1)
    stops = jnp.concatenate([starts[:, 1:], jnp.ones((rows, 1), bool)], axis=1)
    begin = lax.cummax(jnp.where(starts, place, 0), axis=1)
    stop = lax.cummin(jnp.where(stops, place + 1, rows * length), axis=1, reverse=True)
    last = jnp.array([rows * length], jnp.int32)
    return jnp.concatenate([begin.ravel(), last]), jnp.concatenate([stop.ravel(), last])


def _of_blocks(runs, rows: int, body: Callable[[jax.Array, jax.Array, int, Any], Any], carry):
    """`carry = body(at, stop, size, carry)` for all blocks of queries, in order; `size` is static, and `stop - at` no more than it."""
    begins, stops = runs
    total = len(begins) - 1
    is_long = lambda at: stops[at] - at > _QUERIES[1]

    def of_long(state):
        at, carry = state
        stop = jnp.minimum(at + _QUERIES[0], stops[at])
        return stop, body(at, stop, _QUERIES[0], carry)

    def of_short(state):  # as many runs as fit: up to where the one begins that would not
        at, carry = state
        stop = begins[jnp.minimum(at + _QUERIES[1], (at // (total // rows) + 1) * (total // rows))]
        return stop, body(at, stop, _QUERIES[1], carry)

    # One loop in another and not a choice in one: XLA would do both sides of that.
    def of_either(state):
        state = lax.while_loop(lambda state: (state[0] < total) & is_long(state[0]), of_long, state)
        return lax.while_loop(lambda state: (state[0] < total) & ~is_long(state[0]), of_short, state)

    return lax.while_loop(lambda state: state[0] < total, of_either, (jnp.int32(0), carry))[1]


def _of_keys(span, body: Callable[[jax.Array, int, Any], Any], carry):
    """`carry = body(at, size, carry)` for the parts of a stretch of keys; `size` is static."""
    first, count = span[0], jnp.maximum(span[1] - span[0], 0)
    large = (count + _KEYS[0] // 2 - 1) // _KEYS[0]  # a rest of more than half a large part is one too
    small = -(jnp.minimum(large * _KEYS[0] - count, 0) // _KEYS[1])
    carry = lax.fori_loop(0, large, lambda n, carry: body(first + n * _KEYS[0], _KEYS[0], carry), carry)
    first += large * _KEYS[0]
    return lax.fori_loop(0, small, lambda n, carry: body(first + n * _KEYS[1], _KEYS[1], carry), carry)


def _cut(x, at, size: int):
    """`size` tokens of `[H, L, ...]` or, of one axis, `[L]`."""
    return lax.dynamic_slice_in_dim(x, at, size, axis=min(x.ndim - 1, 1))


def _put(x, part, at):
    return lax.dynamic_update_slice(x, part, (0, at, *(0 for _ in x.shape[2:])))


def _block(ids, spans, at, stop, size: int):
    """Of the block's queries: ids `[size]`, 0 beyond its end, and the stretch of keys that they see, `[2]`."""
    inside = at + jnp.arange(size) < stop
    first, last = lax.dynamic_slice_in_dim(spans, at, size, axis=1)
    span = jnp.where(inside, first, spans.max()).min(), jnp.where(inside, last, 0).max()
    return jnp.where(inside, _cut(ids, at, size), 0), span


def _ids_of_keys(ids, span, at, size: int):
    """Ids of a part of a stretch of keys, 0 beyond its end: there another row may use the same."""
    return jnp.where(at + jnp.arange(size) < span[1], _cut(ids, at, size), 0)


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _forward_blocks(q, k, v, query_ids, key_ids, spans, runs, rows):
    """Attention `[H, L, D]` and the logarithm of each query's sum of exponentials, `[H, L]`."""
    heads, _, width = q.shape

    def of_queries(at, stop, size, carry):
        out, sums = carry
        q_i, (ids_i, span) = _cut(q, at, size), _block(query_ids, spans, at, stop, size)

        def of_keys(j, size_j, carry):
            most, total, mixed = carry
            visible = (ids_i[:, None] == _ids_of_keys(key_ids, span, j, size_j)) & (ids_i[:, None] != 0)
            logits = jnp.where(visible, _product("hqd,hkd->hqk", q_i, _cut(k, j, size_j)), MASKED)
            new = jnp.maximum(most, logits.max(-1))
            weights, fade = jnp.exp(logits - new[..., None]), jnp.exp(most - new)
            seen = _product("hqk,hkd->hqd", weights.astype(v.dtype), _cut(v, j, size_j))
            return new, total * fade + weights.sum(-1), mixed * fade[..., None] + seen

        zeros = jnp.zeros((heads, size))
        most, total, mixed = _of_keys(span, of_keys, (zeros + MASKED, zeros, jnp.zeros((heads, size, width))))
        total = jnp.maximum(total, 1e-30)  # of a block of padding
        # What lies beyond the block's end is written over by the next block.
        return _put(out, (mixed / total[..., None]).astype(q.dtype), at), _put(sums, most + jnp.log(total), at)

    return _of_blocks(runs, rows, of_queries, (jnp.zeros_like(q), jnp.zeros(q.shape[:2], jnp.float32)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _attend(q, k, v, query_ids, key_ids, spans, runs, rows):
    return _forward_blocks(q, k, v, query_ids, key_ids, spans, runs, rows)[0]


def _attend_forward(q, k, v, query_ids, key_ids, spans, runs, rows):
    out, sums = kept(*_forward_blocks(q, k, v, query_ids, key_ids, spans, runs, rows))
    return out, (q, k, v, query_ids, key_ids, spans, runs, out, sums)


def _attend_backward(rows, residuals, gradient):
    q, k, v, query_ids, key_ids, spans, runs, out, sums = residuals
    heads, _, width = q.shape
    drift = (out.astype(jnp.float32) * gradient).sum(-1)

    # Logits are keys by queries here: of the five products that follow from them only one has to turn a matrix round.
    def of_queries(at, stop, size, carry):
        dq, dk, dv = carry
        ids_i, span = _block(query_ids, spans, at, stop, size)
        q_i, gradient_i, drift_i = (_cut(x, at, size) for x in (q, gradient, drift))
        sums_i = jnp.where(ids_i == 0, _UNSEEN, _cut(sums, at, size))

        def of_keys(j, size_j, carry):
            dq_i, dk, dv = carry
            k_j, v_j = _cut(k, j, size_j), _cut(v, j, size_j)
            visible = _ids_of_keys(key_ids, span, j, size_j)[:, None] == ids_i
            logits = jnp.where(visible, _product("hkd,hqd->hkq", k_j, q_i), MASKED)
            weights = jnp.exp(logits - sums_i[:, None])
            back = (weights * (_product("hkd,hqd->hkq", v_j, gradient_i) - drift_i[:, None])).astype(q.dtype)
            dv = _put(dv, _cut(dv, j, size_j) + _product("hkq,hqd->hkd", weights.astype(q.dtype), gradient_i), j)
            dk = _put(dk, _cut(dk, j, size_j) + _product("hkq,hqd->hkd", back, q_i), j)
            return dq_i + _product("hkq,hkd->hdq", back, k_j), dk, dv

        dq_i, dk, dv = _of_keys(span, of_keys, (jnp.zeros((heads, width, size)), dk, dv))
        return _put(dq, dq_i.swapaxes(1, 2).astype(q.dtype), at), dk, dv

    zeros = jnp.zeros(k.shape, jnp.float32)
    dq, dk, dv = _of_blocks(runs, rows, of_queries, (jnp.zeros_like(q), zeros, zeros))
    return dq, dk.astype(k.dtype), dv.astype(v.dtype), None, None, None, None


_attend.defvjp(_attend_forward, _attend_backward)

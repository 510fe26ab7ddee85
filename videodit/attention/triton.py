"""Packed attention on a GPU: Pallas kernels for Triton in which a block meets only those that the plan says it can.

FlashAttention-2 (Dao, 2023), algorithms 1 and 2. Since segments lie one after another, the blocks that a block can meet lie one after
another too: each program loops from the first to the last of them. JAX's own kernel for GPUs masks by segment ids and goes through the
whole row.
"""

import functools

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from videodit.attention.names import kept
from videodit.attention.reference import MASKED

_PARAMETERS = plgpu.CompilerParams(num_warps=4, num_stages=2)


def triton_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, with `live` of its plan; padding gets zeros or what its block's other tokens gave."""
    return _attend(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, bounds(live, 2), bounds(live, 1), interpret)


def forward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False):
    """As `ring.Part.forward`."""
    return _forward(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, bounds(live, 2), interpret)


def backward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, out, sums, gradient, *, interpret: bool = False):
    """As `ring.Part.backward`."""
    arrays = q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM
    return _attend_backward(interpret, (*arrays, bounds(live, 2), bounds(live, 1), out, sums), gradient)[:3]


def bounds(live: jax.Array, axis: int) -> jax.Array:
    """int32 `[B, n, 2]`: the first block that lives along `axis`, and the one after the last; equal where none does."""
    count, some = live.shape[axis], live.any(axis)
    first = jnp.where(some, live.argmax(axis), 0)
    return jnp.stack([first, jnp.where(some, count - jnp.flip(live, axis).argmax(axis), 0)], axis=-1).astype(jnp.int32)


def _logits(q, k, ids_q, ids_k):
    """Scaled logits in float32, and where they count."""
    logits = plgpu.dot(q, k.T).astype(jnp.float32) * q.shape[-1] ** -0.5
    return jnp.where((ids_q[:, None] == ids_k[None, :]) & (ids_q[:, None] != 0), logits, MASKED)


def _forward_kernel(q_ref, k_ref, v_ref, ids_q_ref, ids_k_ref, bounds_ref, out_ref, sums_ref, *, block: int):
    q, ids_q = q_ref[...], ids_q_ref[...]

    def of_keys(j, carry):
        most, total, mixed = carry
        at = pl.ds(j * block, block)
        logits = _logits(q, k_ref[at, :], ids_q, ids_k_ref[at])
        new = jnp.maximum(most, logits.max(-1))
        weights, fade = jnp.exp(logits - new[:, None]), jnp.exp(most - new)
        return new, total * fade + weights.sum(-1), mixed * fade[:, None] + plgpu.dot(weights.astype(v_ref.dtype), v_ref[at, :])

    zeros = jnp.zeros(q.shape[:1], jnp.float32)
    start = zeros + MASKED, zeros, jnp.zeros(q.shape, jnp.float32)
    most, total, mixed = lax.fori_loop(bounds_ref[0], bounds_ref[1], of_keys, start)
    total = jnp.maximum(total, 1e-30)  # of a block of padding
    out_ref[...] = (mixed / total[:, None]).astype(out_ref.dtype)
    sums_ref[...] = most + jnp.log(total)


def _queries_kernel(q_ref, k_ref, v_ref, ids_q_ref, ids_k_ref, bounds_ref, grad_ref, sums_ref, drift_ref, dq_ref, *, block: int):
    q, ids_q, grad, sums, drift = q_ref[...], ids_q_ref[...], grad_ref[...], sums_ref[...], drift_ref[...]

    def of_keys(j, dq):
        at = pl.ds(j * block, block)
        k = k_ref[at, :]
        weights = jnp.exp(_logits(q, k, ids_q, ids_k_ref[at]) - sums[:, None])
        back = weights * (plgpu.dot(grad, v_ref[at, :].T) - drift[:, None])
        return dq + plgpu.dot(back.astype(k.dtype), k)

    dq = lax.fori_loop(bounds_ref[0], bounds_ref[1], of_keys, jnp.zeros(q.shape, jnp.float32))
    dq_ref[...] = (dq * q.shape[-1] ** -0.5).astype(dq_ref.dtype)


def _keys_kernel(k_ref, v_ref, q_ref, ids_k_ref, ids_q_ref, bounds_ref, grad_ref, sums_ref, drift_ref, dk_ref, dv_ref, *, block: int):
    k, v, ids_k = k_ref[...], v_ref[...], ids_k_ref[...]

    def of_queries(i, carry):
        dk, dv = carry
        at = pl.ds(i * block, block)
        q, grad = q_ref[at, :], grad_ref[at, :]
        weights = jnp.exp(_logits(q, k, ids_q_ref[at], ids_k) - sums_ref[at][:, None])
        back = weights * (plgpu.dot(grad, v.T) - drift_ref[at][:, None])
        return dk + plgpu.dot(back.astype(q.dtype).T, q), dv + plgpu.dot(weights.astype(q.dtype).T, grad)

    zeros = jnp.zeros(k.shape, jnp.float32)
    dk, dv = lax.fori_loop(bounds_ref[0], bounds_ref[1], of_queries, (zeros, zeros))
    dk_ref[...], dv_ref[...] = (dk * k.shape[-1] ** -0.5).astype(dk_ref.dtype), dv.astype(dv_ref.dtype)


def _specs(shape, count: int):
    """Of `[B, L, H, D]` and what goes with it, (a block a program, and all of the row), in a grid of blocks, rows and heads."""
    _, length, _, width = shape
    block = length // count
    return {
        "part": pl.BlockSpec((None, block, None, width), lambda i, b, h: (b, i, h, 0)),
        "whole": pl.BlockSpec((None, length, None, width), lambda i, b, h: (b, 0, h, 0)),
        "part_ids": pl.BlockSpec((None, block), lambda i, b, h: (b, i)),
        "whole_ids": pl.BlockSpec((None, length), lambda i, b, h: (b, 0)),
        "part_sums": pl.BlockSpec((None, None, block), lambda i, b, h: (b, h, i)),
        "whole_sums": pl.BlockSpec((None, None, length), lambda i, b, h: (b, h, 0)),
        "bounds": pl.BlockSpec((None, None, 2), lambda i, b, h: (b, i, 0)),
    }


def _forward(q, k, v, ids_q, ids_k, of_queries, interpret):
    queries, keys = of_queries.shape[1], k.shape[1] // (q.shape[1] // of_queries.shape[1])
    mine, theirs = _specs(q.shape, queries), _specs(k.shape, keys)
    return pl.pallas_call(
        functools.partial(_forward_kernel, block=k.shape[1] // keys),
        grid=(queries, q.shape[0], q.shape[2]),
        in_specs=[mine["part"], theirs["whole"], theirs["whole"], mine["part_ids"], theirs["whole_ids"], mine["bounds"]],
        out_specs=[mine["part"], mine["part_sums"]],
        out_shape=[jax.ShapeDtypeStruct(q.shape, q.dtype), jax.ShapeDtypeStruct((q.shape[0], q.shape[2], q.shape[1]), jnp.float32)],
        compiler_params=_PARAMETERS,
        interpret=interpret,
        name="packed_attention",
    )(q, k, v, ids_q, ids_k, of_queries)


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _attend(q, k, v, ids_q, ids_k, of_queries, of_keys, interpret):
    return _forward(q, k, v, ids_q, ids_k, of_queries, interpret)[0]


def _attend_forward(q, k, v, ids_q, ids_k, of_queries, of_keys, interpret):
    out, sums = kept(*_forward(q, k, v, ids_q, ids_k, of_queries, interpret))
    return out, (q, k, v, ids_q, ids_k, of_queries, of_keys, out, sums)


def _attend_backward(interpret, residuals, gradient):
    q, k, v, ids_q, ids_k, of_queries, of_keys, out, sums = residuals
    drift = (out.astype(jnp.float32) * gradient).sum(-1).swapaxes(1, 2)
    queries, keys = of_queries.shape[1], of_keys.shape[1]
    mine, theirs = _specs(q.shape, queries), _specs(k.shape, keys)
    call = functools.partial(pl.pallas_call, compiler_params=_PARAMETERS, interpret=interpret)
    dq = call(
        functools.partial(_queries_kernel, block=k.shape[1] // keys),
        grid=(queries, q.shape[0], q.shape[2]),
        in_specs=[mine["part"], theirs["whole"], theirs["whole"], mine["part_ids"], theirs["whole_ids"], mine["bounds"],
                  mine["part"], mine["part_sums"], mine["part_sums"]],
        out_specs=mine["part"],
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        name="packed_attention_queries",
    )(q, k, v, ids_q, ids_k, of_queries, gradient, sums, drift)  # fmt: skip
    dk, dv = call(
        functools.partial(_keys_kernel, block=q.shape[1] // queries),
        grid=(keys, k.shape[0], k.shape[2]),
        in_specs=[theirs["part"], theirs["part"], mine["whole"], theirs["part_ids"], mine["whole_ids"], theirs["bounds"],
                  mine["whole"], mine["whole_sums"], mine["whole_sums"]],
        out_specs=[theirs["part"], theirs["part"]],
        out_shape=[jax.ShapeDtypeStruct(k.shape, k.dtype), jax.ShapeDtypeStruct(v.shape, v.dtype)],
        name="packed_attention_keys",
    )(k, v, q, ids_k, ids_q, of_keys, gradient, sums, drift)  # fmt: skip
    return dq, dk, dv, None, None, None, None


_attend.defvjp(_attend_forward, _attend_backward)

"""Ring attention: devices that share rows keep their queries, and pass keys and values on from one to the next.

Liu, Zaharia and Abbeel, "Ring Attention with Blockwise Transformers for Near-Infinite Context" (2023). What each device sees of a part of
the keys is joined by the logarithms of the sums of exponentials; in the backward pass gradients of keys and values travel with them. A
device's plan says which of its blocks meet the part at hand, so that parts of other clips cost their passing alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from videodit.attention.names import kept


@dataclass(frozen=True, kw_only=True)
class Part:
    """Attention to a part of the keys, of one backend. Arrays are as in `packed_attention`, and `guide` is what of the plan it goes by.

    forward: `(q, k, v, query_ids, key_ids, guide, interpret=)` gives what is attended, normalised over the part, and float32 `[B, H, L]`,
      the logarithm of each query's sum of exponentials.
    backward: `(..., guide, out, sums, gradient, interpret=)`, where `out` and `sums` are of all keys: gradients of q, k and v.
    guide_in: `(guide, at, parts, keys)`: of a guide for all keys, that for part `at` of so many, each of so many keys.
    """

    forward: Callable[..., tuple[jax.Array, jax.Array]]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
    guide_in: Callable[[jax.Array, jax.Array, int, int], jax.Array]


def ring_attention(q, k, v, query_ids_BxL, key_ids_BxN, guide, *, part: Part, axis: str, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, inside a `shard_map` over the mesh axis `axis`: a device's own q, k, v, `[B, L, H, D]`, and ids of all keys.

    Memory is that of a device's own part. In a step of the ring it passes on `2 B L H D` numbers, and in the backward pass as many more in
    float32.
    """
    return _attend(q, k, v, query_ids_BxL, key_ids_BxN, guide, part, axis, interpret)


def _parts(k, key_ids, guide, part: Part, axis: str):
    """`of(step)`: ids and guide of the keys at hand after so many steps."""
    devices, keys = lax.axis_size(axis), k.shape[1]

    def of(step):
        at = (lax.axis_index(axis) - step) % devices
        return lax.dynamic_slice_in_dim(key_ids, at * keys, keys, axis=1), part.guide_in(guide, at, devices, keys)

    return of


def _pass_on(arrays: Any, axis: str) -> Any:
    devices = lax.axis_size(axis)
    return lax.ppermute(arrays, axis, [(i, (i + 1) % devices) for i in range(devices)])


def _forward(q, k, v, query_ids, key_ids, guide, part: Part, axis: str, interpret: bool):
    devices, of = lax.axis_size(axis), _parts(k, key_ids, guide, part, axis)

    def attend(step, k, v):
        ids, of_part = of(step)
        out, sums = part.forward(q, k, v, query_ids, ids, of_part, interpret=interpret)
        return out.astype(jnp.float32), sums

    def join(one, other):
        (out, sums), (more, more_sums) = one, other
        total = jnp.logaddexp(sums, more_sums)
        share = lambda each: jnp.exp(each - total).swapaxes(1, 2)[..., None]
        return out * share(sums) + more * share(more_sums), total

    def step(number, carry):
        (k, v), seen = carry
        coming = _pass_on((k, v), axis)  # on its way while this part is attended to
        return coming, join(seen, attend(number, k, v))

    start = jnp.zeros(q.shape, jnp.float32), jnp.full((q.shape[0], q.shape[2], q.shape[1]), -jnp.inf)
    (k, v), seen = lax.fori_loop(0, devices - 1, step, ((k, v), start))
    out, sums = join(seen, attend(devices - 1, k, v))
    return out.astype(q.dtype), sums


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def _attend(q, k, v, query_ids, key_ids, guide, part, axis, interpret):
    return _forward(q, k, v, query_ids, key_ids, guide, part, axis, interpret)[0]


def _attend_forward(q, k, v, query_ids, key_ids, guide, part, axis, interpret):
    out, sums = kept(*_forward(q, k, v, query_ids, key_ids, guide, part, axis, interpret))
    return out, (q, k, v, query_ids, key_ids, guide, out, sums)


def _attend_backward(part, axis, interpret, residuals, gradient):
    q, k, v, query_ids, key_ids, guide, out, sums = residuals
    of = _parts(k, key_ids, guide, part, axis)

    def step(number, carry):
        (k, v), dq, (dk, dv) = carry
        coming = _pass_on((k, v), axis)
        ids, of_part = of(number)
        more = part.backward(q, k, v, query_ids, ids, of_part, out, sums, gradient, interpret=interpret)
        return coming, dq + more[0], _pass_on((dk + more[1], dv + more[2]), axis)

    none = lambda x: jnp.zeros(x.shape, jnp.float32)
    _, dq, (dk, dv) = lax.fori_loop(0, lax.axis_size(axis), step, ((k, v), none(q), (none(k), none(v))))
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None, None, None


_attend.defvjp(_attend_forward, _attend_backward)

"""Packed attention on a TPU: JAX's splash kernel, told by the plan which blocks to leave out.

The kernel masks by segment ids but leaves nothing out because of them (jax 0.10.2): a packed row would cost all of L x L. It also takes a
map of blocks, meant for masks that are known beforehand; the plan fills that in from the batch.
"""

import math

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info
import jax.numpy as jnp

from videodit.attention.names import ATTENDED

_SKIP, _WHOLE = 0, 2  # of a block of the map; segment ids mask within
# One kernel gives the gradients of queries, keys and values, and computes scores once, where this holds what each block of keys adds to
# those of the queries: five products in the place of seven. Else two kernels do.
_FUSED_BYTES = 2 * 2**30


def fused_keys(queries: tuple[int, ...], itemsize: int, keys: int, block: int) -> int:
    """Keys in a block of the one backward kernel, for `queries` `[B, L, H, D]` of a device and the plan's `block`; 0 if there are two."""
    fits = lambda each: keys % each == 0 and math.prod(queries) * itemsize * (keys // each) <= _FUSED_BYTES
    return next((each for each in (block, 2 * block, 4 * block) if fits(each)), 0)


def splash_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, with `live` of its plan."""
    options = _options(q_BxLxHxD, k_BxMxHxD, live, interpret)

    def of_row(q, k, v, query_ids, key_ids, live):
        kernel = splash.SplashAttentionKernel(
            _block_map(live, axis=1),
            _block_map(live, axis=1),
            _block_map(_by_keys(live, options), axis=0),
            save_residuals=False,
            **options,
        )
        return kernel(q, k, v, splash.SegmentIds(query_ids, key_ids))

    return _head_first(jax.vmap(of_row)(*_kernel_arrays(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD), query_ids_BxL, key_ids_BxM, _some_live(live)))


def forward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False):
    """As `ring.Part.forward`."""
    options = _options(q_BxLxHxD, k_BxMxHxD, live, interpret)

    def of_row(q, k, v, query_ids, key_ids, live):
        ids = splash.SegmentIds(query_ids, key_ids)
        out, (sums,) = splash._splash_attention_forward(_block_map(live, axis=1), q, k, v, ids, sinks=None, save_residuals=True, **options)
        return out, sums

    arrays = _kernel_arrays(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD)
    out, sums = jax.vmap(of_row)(*arrays, query_ids_BxL, key_ids_BxM, _some_live(live))
    return _head_first(out), sums


def backward_part(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, out, sums, gradient, *, interpret: bool = False):
    """As `ring.Part.backward`."""
    options = _options(q_BxLxHxD, k_BxMxHxD, live, interpret)

    def of_row(q, k, v, query_ids, key_ids, live, out, sums, gradient):
        ids = splash.SegmentIds(query_ids, key_ids)
        kept = q, k, v, ids, None, out, sums, _block_map(live, axis=1), _block_map(_by_keys(live, options), axis=0)
        return splash._splash_attention_bwd(save_residuals=False, res=kept, do=gradient, **options)[3:6]

    arrays = _kernel_arrays(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD)
    rest = query_ids_BxL, key_ids_BxM, _some_live(live), _head_first(out), sums, _head_first(gradient)
    dq, dk, dv = (_head_first(x) for x in jax.vmap(of_row)(*arrays, *rest))
    return dq * q_BxLxHxD.shape[-1] ** -0.5, dk, dv


def _head_first(x):
    return x.swapaxes(1, 2)


def _kernel_arrays(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD):
    return _head_first(q_BxLxHxD * q_BxLxHxD.shape[-1] ** -0.5), _head_first(k_BxMxHxD), _head_first(v_BxMxHxD)


def _some_live(live):
    """A block that meets nothing takes the first of the keys: softmax over nothing would be NaN."""
    return live.at[:, :, 0].set(live[:, :, 0] | ~live.any(-1))


def _options(q_BxLxHxD, k_BxMxHxD, live, interpret: bool) -> dict:
    block = k_BxMxHxD.shape[1] // live.shape[2]
    fused = fused_keys(q_BxLxHxD.shape, q_BxLxHxD.dtype.itemsize, k_BxMxHxD.shape[1], block)
    of_queries = {} if fused else {"block_q_dq": block, "block_kv_dq": block}
    return {
        "block_sizes": splash.BlockSizes(
            block_q=block,
            block_kv=block,
            block_q_dkv=block,
            block_kv_dkv=fused or block,
            block_kv_dkv_compute=block,
            use_fused_bwd_kernel=bool(fused),
            **of_queries,
        ),
        "is_mqa": False,
        "mask_value": splash.DEFAULT_MASK_VALUE,
        "attn_logits_soft_cap": None,
        "residual_checkpoint_name": ATTENDED,
        "mask_function": None,
        "interpret": interpret,
    }


def _by_keys(live: jax.Array, options: dict) -> jax.Array:
    """`live` `[n, m]` in the blocks of keys that the backward pass has."""
    blocks = options["block_sizes"]
    return live.reshape(live.shape[0], -1, blocks.block_kv_dkv // blocks.block_kv).any(-1)


def _block_map(live: jax.Array, axis: int) -> mask_info.MaskInfo:
    """`live` for the kernel, which walks along `axis`. Where a block is left out the one before it stays loaded, so nothing is fetched."""
    index = jax.lax.broadcasted_iota(jnp.int32, live.shape, axis)
    loaded = jax.lax.cummax(jnp.where(live, index, -1), axis=axis)
    return mask_info.MaskInfo(
        data_next=jnp.where(loaded < 0, live.argmax(axis, keepdims=True).astype(jnp.int32), loaded)[None],
        block_mask=jnp.where(live, _WHOLE, _SKIP)[None].astype(jnp.int32),
        mask_next=None,
        partial_mask_blocks=None,
        q_sequence=None,
        is_dynamic_mask=True,
    )

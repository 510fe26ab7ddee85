"""Packed attention on a TPU: JAX's splash kernel, told by the plan which blocks to leave out.

The kernel masks by segment ids but leaves nothing out because of them (jax 0.10.2): a packed row would cost all of L x L. It also takes a
map of blocks, meant for masks that are known beforehand; the plan fills that in from the batch.
"""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask_info as mask_info
import jax.numpy as jnp

_SKIP, _WHOLE = 0, 2  # of a block of the map; segment ids mask within


def splash_attention(q_BxLxHxD, k_BxMxHxD, v_BxMxHxD, query_ids_BxL, key_ids_BxM, live, *, interpret: bool = False) -> jax.Array:
    """As `packed_attention`, with `live` of its plan."""
    q, k, v = (x.swapaxes(1, 2) for x in (q_BxLxHxD * q_BxLxHxD.shape[-1] ** -0.5, k_BxMxHxD, v_BxMxHxD))
    block = k.shape[2] // live.shape[2]
    # A block that meets nothing takes the first of the keys: softmax over nothing would be NaN.
    live = live.at[:, :, 0].set(live[:, :, 0] | ~live.any(-1))
    attend = jax.vmap(lambda *row: _attend_row(*row, block=block, interpret=interpret))
    return attend(q, k, v, query_ids_BxL, key_ids_BxM, live).swapaxes(1, 2)


def _attend_row(q_HxLxD, k_HxMxD, v_HxMxD, query_ids, key_ids, live, *, block: int, interpret: bool):
    sizes = splash.BlockSizes(block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block)
    kernel = splash.SplashAttentionKernel(
        _block_map(live, axis=1),
        _block_map(live, axis=1),
        _block_map(live, axis=0),
        block_sizes=sizes,
        is_mqa=False,
        save_residuals=False,
        mask_value=splash.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name=None,
        mask_function=None,
        interpret=interpret,
    )
    return kernel(q_HxLxD, k_HxMxD, v_HxMxD, splash.SegmentIds(query_ids, key_ids))


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

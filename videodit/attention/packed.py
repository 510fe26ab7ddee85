"""The one entrance to attention: picks the backend that the plan names, and spreads it over a mesh."""

import functools

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from videodit.attention import blocked, splash, triton
from videodit.attention.names import ATTENDED
from videodit.attention.plan import AttentionPlan, blocks_in
from videodit.attention.reference import reference_attention
from videodit.attention.ring import Part, ring_attention
from videodit.core.errors import UserError
from videodit.sharding.rules import spec_of

_BACKENDS = {"blocked": blocked.blocked_attention, "splash": splash.splash_attention, "triton": triton.triton_attention}
_PARTS = {
    "blocked": Part(forward=blocked.forward_part, backward=blocked.backward_part, guide_in=blocked.spans_in),
    "splash": Part(forward=splash.forward_part, backward=splash.backward_part, guide_in=blocks_in),
    "triton": Part(forward=triton.forward_part, backward=triton.backward_part, guide_in=blocks_in),
}


def packed_attention(q_BxLxHxD: jax.Array, k_BxLxHxD: jax.Array, v_BxLxHxD: jax.Array, plan: AttentionPlan) -> jax.Array:
    """Softmax attention in which a token sees exactly the tokens of its own segment.

    Logits and softmax are float32, scaled by `D ** -0.5`. What padding returns has no meaning, and is finite.
    Returns `[B, L, H, D]` in q's dtype.

    On a mesh (`jax.set_mesh`) rows are split over `data` and `fsdp`, heads over `tensor`, and a row's length over `context`, whose
    devices meet as the plan's `context` says. XLA splits the reference by itself. Raises UserError where the heads of a device cannot be
    split for "all_to_all".
    """
    arrays = (q_BxLxHxD, k_BxLxHxD, v_BxLxHxD, plan.segment_ids, plan.segment_ids)
    if plan.backend == "reference":
        return checkpoint_name(reference_attention(*arrays), ATTENDED)
    attend = functools.partial(_BACKENDS[plan.backend], interpret=plan.interpret)
    guide = plan.spans if plan.live is None else plan.live
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return attend(*arrays, guide)
    # Devices share a row by whole blocks.
    rows, blocks, heads, _ = spec_of(("rows", "length", "heads", None), (q_BxLxHxD.shape[0], guide.shape[1], *q_BxLxHxD.shape[2:]), mesh)
    context = plan.context if blocks else "gather"
    if context == "ring":
        attend = functools.partial(ring_attention, part=_PARTS[plan.backend], axis="context", interpret=plan.interpret)
    elif context == "all_to_all":
        own = q_BxLxHxD.shape[2] // (mesh.shape["tensor"] if heads else 1)
        if own % mesh.shape["context"]:
            raise UserError(
                f"context attention 'all_to_all' splits the {own} heads of a device over context={mesh.shape['context']}: "
                "expected a multiple of it, or 'gather' or 'ring'"
            )
        attend = functools.partial(_by_heads, attend)
    whole = lambda *rest: PartitionSpec(rows, None, *rest)
    split = lambda *rest: PartitionSpec(rows, blocks, *rest)
    keys, queries = (whole if context == "gather" else split), (whole if context == "all_to_all" else split)
    return jax.shard_map(
        attend,
        mesh=mesh,
        in_specs=(split(heads, None), keys(heads, None), keys(heads, None), queries(), whole(), queries(None)),
        out_specs=split(heads, None),
        check_vma=False,
    )(*arrays, guide)


def _by_heads(attend, q, k, v, *rest):
    """Whole rows of some heads in place of some queries of all (Jacobs et al., "DeepSpeed Ulysses", 2023)."""
    of_heads = functools.partial(lax.all_to_all, axis_name="context", split_axis=2, concat_axis=1, tiled=True)
    out = attend(of_heads(q), of_heads(k), of_heads(v), *rest)
    return lax.all_to_all(out, "context", split_axis=1, concat_axis=2, tiled=True)

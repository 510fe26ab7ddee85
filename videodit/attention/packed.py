"""The one entrance to attention: picks the backend that the plan names, and spreads it over a mesh."""

import jax
from jax.sharding import PartitionSpec

from videodit.attention.blocked import blocked_attention
from videodit.attention.plan import AttentionPlan
from videodit.attention.reference import reference_attention
from videodit.attention.splash import splash_attention
from videodit.attention.triton import triton_attention
from videodit.sharding.rules import spec_of

_BACKENDS = {"reference": reference_attention, "blocked": blocked_attention, "splash": splash_attention, "triton": triton_attention}


def packed_attention(q_BxLxHxD: jax.Array, k_BxLxHxD: jax.Array, v_BxLxHxD: jax.Array, plan: AttentionPlan) -> jax.Array:
    """Softmax attention in which a token sees exactly the tokens of its own segment.

    Logits and softmax are float32, scaled by `D ** -0.5`. What padding returns has no meaning, and is finite.
    Returns `[B, L, H, D]` in q's dtype.

    On a mesh (`jax.set_mesh`) rows are split over `data` and `fsdp`, heads over `tensor`, and a row's queries over `context`, whose
    devices gather its keys and values. XLA splits the reference by itself.
    """
    arrays = (q_BxLxHxD, k_BxLxHxD, v_BxLxHxD, plan.segment_ids, plan.segment_ids)
    mesh = jax.sharding.get_abstract_mesh()
    if plan.backend == "reference":
        return reference_attention(*arrays)
    attend = lambda *arrays: _BACKENDS[plan.backend](*arrays, interpret=plan.interpret)
    if mesh.empty or mesh.size == 1:
        return attend(*arrays, plan.live)
    rows, blocks, heads, _ = spec_of(
        ("rows", "length", "heads", None), (q_BxLxHxD.shape[0], plan.live.shape[1], *q_BxLxHxD.shape[2:]), mesh
    )
    if q_BxLxHxD.shape[1] % plan.live.shape[1]:
        blocks = None  # the last block is not whole, so devices' shares of the row would not be equal
    spec = PartitionSpec
    return jax.shard_map(
        attend,
        mesh=mesh,
        in_specs=(
            spec(rows, blocks, heads, None),
            spec(rows, None, heads, None),
            spec(rows, None, heads, None),
            spec(rows, blocks),
            spec(rows, None),
            spec(rows, blocks, None),
        ),
        out_specs=spec(rows, blocks, heads, None),
        check_vma=False,
    )(*arrays, plan.live)

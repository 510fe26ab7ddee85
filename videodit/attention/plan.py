"""The attention plan: which blocks of a packed row can meet at all. Made once a batch, used by every layer, forward and backward."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from videodit.attention.blocked import key_spans
from videodit.core.errors import UserError

BACKENDS = ("reference", "blocked", "splash", "triton")
CONTEXTS = ("gather", "all_to_all", "ring")
# Tokens along a block's side, the largest that divides the row. A TPU's kernel takes no fewer than 128.
_KERNELS = {"splash": (512, 256, 128), "triton": (64,)}
# Tokens of a row: on a CPU no longer row is faster with its blocks apart (experiments/benchmarks/attention.py).
_DENSE = 192
_ON = {"tpu": "splash", "gpu": "triton"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """What `packed_attention` goes by.

    Attributes:
      segment_ids: int32 `[B, L]`; tokens with equal ids see each other, 0 is padding.
      live: bool `[B, n, n]`, blocks of queries by blocks of keys: False where no two of their tokens are of one segment. Kernels go by it;
        None for the others.
      spans: int32 `[B, L, 2]`: the first token that each token sees, and the one after the last. "blocked" goes by it; None for the others.
      backend: one of `BACKENDS`.
      context: how devices that share rows meet, one of `CONTEXTS`: "gather", each gathers all keys and values; "all_to_all", each takes
        whole rows of some of the heads; "ring", keys and values go round.
      interpret: whether kernels run in Pallas' interpreter, where their platform is not at hand.
    """

    segment_ids: jax.Array
    live: jax.Array | None = None
    spans: jax.Array | None = None
    backend: str = field(metadata={"static": True})
    context: str = field(default="gather", metadata={"static": True})
    interpret: bool = field(default=False, metadata={"static": True})


def make_plan(segment_ids_BxL: jax.Array, backend: str = "auto", *, context: str = "gather", interpret: bool = False) -> AttentionPlan:
    """The plan of a batch of rows. It costs `O(L log L + n^2)` for n blocks a row, and holds no L x L array.

    `backend` "auto" is "splash" on a TPU and "triton" on a GPU; on a CPU "reference" for short rows, "blocked" for long ones.

    Raises UserError for an unknown backend or `context`, and where a kernel does not take the row's length.
    """
    if context not in CONTEXTS:
        raise UserError(f"context attention {context!r}: one of {', '.join(CONTEXTS)}")
    length = segment_ids_BxL.shape[1]
    if backend == "auto":
        backend = _ON.get(jax.default_backend(), "blocked" if length > _DENSE else "reference")
    if backend not in BACKENDS:
        raise UserError(f"attention {backend!r}: one of auto, {', '.join(BACKENDS)}")
    if backend == "reference":
        return AttentionPlan(segment_ids=segment_ids_BxL, backend=backend)
    if backend == "blocked":
        return AttentionPlan(segment_ids=segment_ids_BxL, spans=key_spans(segment_ids_BxL), backend=backend, context=context)
    ways = jax.sharding.get_abstract_mesh().shape.get("context", 1)  # devices that share a row do so by whole blocks, where it has enough
    fits = lambda ways: next((each for each in _KERNELS[backend] if length % (each * ways) == 0), None)
    block = fits(ways) or fits(1)
    if block is None:
        least = _KERNELS[backend][-1]
        raise UserError(
            f"rows of {length} tokens: attention {backend!r} takes multiples of {least}, the next is {-(-length // least) * least}"
        )
    live = live_blocks(segment_ids_BxL, block)
    return AttentionPlan(segment_ids=segment_ids_BxL, live=live, backend=backend, context=context, interpret=interpret)


def row_multiple(backend: str = "auto") -> int:
    """What the length of a row must be a multiple of."""
    backend = _ON.get(jax.default_backend(), backend) if backend == "auto" else backend
    return _KERNELS[backend][-1] if backend in _KERNELS else 1


def live_blocks(segment_ids_BxL: jax.Array, block: int) -> jax.Array:
    """bool `[B, n, n]`: can any token of block i (queries) be of one segment with any of block j (keys)?

    By each block's lowest and highest id, padding aside: exact for segments that lie one after another, and never False where tokens meet.
    """
    rows, length = segment_ids_BxL.shape
    ids = jnp.pad(segment_ids_BxL, ((0, 0), (0, -length % block))).reshape(rows, -1, block)
    low = jnp.where(ids == 0, jnp.iinfo(ids.dtype).max, ids).min(-1)
    high = ids.max(-1)
    return (low[:, :, None] <= high[:, None, :]) & (low[:, None, :] <= high[:, :, None])


def blocks_in(live: jax.Array, at: jax.Array, parts: int, keys: int) -> jax.Array:
    """Of `live_blocks`, those of the keys in part `at` of so many equal ones."""
    del keys
    count = live.shape[2] // parts
    return jax.lax.dynamic_slice_in_dim(live, at * count, count, axis=2)

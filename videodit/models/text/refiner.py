"""A small bidirectional transformer over the text of packed rows, trained together with the diffusion transformer.

Bytes, and outputs of encoders that were trained for something else, say little of what they mean here until they have seen each other
(the token refiner of HunyuanVideo, 2024, section 4.2, and of Lumina-Image 2.0, 2025). Blocks of attention and SwiGLU (Shazeer, 2020), each
behind an RMS norm, with normalised queries and keys and rotary positions. What a block adds starts at zero: a new refiner hands on what it
is given, so that one may be put into a trained model.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from videodit.attention import make_plan, packed_attention, row_multiple
from videodit.core.errors import UserError
from videodit.core.rope import rotate
from videodit.models.dense import Dense
from videodit.models.text.sharding import KERNELS
from videodit.sharding.rules import constrain

_EPSILON = 1e-6  # of the RMS norms


@dataclass(frozen=True, kw_only=True)
class TextRefinerConfig:
    """Shape of the refiner; its width is that of what it is given.

    `depth`: blocks, few, so that they are not scanned; `heads`: the width is a multiple of twice as many; `mlp_ratio`: hidden channels of
    the MLP by the width (8/3 has the parameters of a plain MLP at 4); `rope_theta`: longest wavelength of the rotary positions in
    tokens, by 2 pi; `dtype` of products, "float32" or "bfloat16".
    """

    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 8 / 3
    rope_theta: float = 10_000.0
    dtype: Literal["float32", "bfloat16"] = "float32"

    def mlp_width(self, width: int) -> int:
        """Hidden channels for a width, a multiple of 8."""
        return round(width * self.mlp_ratio / 8) * 8


class Block(nn.Module):
    """Attention, then SwiGLU, each behind an RMS norm and added to the stream."""

    config: TextRefinerConfig

    @nn.compact
    def __call__(self, x_BxLxD, rope, plan):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        batch, length, width = x_BxLxD.shape
        norm = lambda name: nn.RMSNorm(epsilon=_EPSILON, dtype=dtype, name=name)
        dense = lambda features, name, init=nn.linear.default_kernel_init: Dense(
            features, KERNELS[f"{name}/kernel"], use_bias=False, dtype=dtype, name=name, kernel_init=init
        )
        h = norm("attention_norm")(x_BxLxD)
        q, k, v = (dense(width, name)(h).reshape(batch, length, c.heads, -1) for name in ("query", "key", "value"))
        q, k, v = (constrain(each, "rows", "length", "heads", None) for each in (q, k, v))
        q, k = rotate(norm("query_norm")(q), *rope), rotate(norm("key_norm")(k), *rope)
        attended = packed_attention(q, k, v, plan).reshape(batch, length, width)
        seen = constrain(dense(width, "attention_out", nn.initializers.zeros)(attended), "rows", "length", None)
        x = x_BxLxD + seen.astype(x_BxLxD.dtype)

        h = norm("mlp_norm")(x)
        gate, up = (constrain(dense(c.mlp_width(width), name)(h), "rows", "length", "mlp") for name in ("gate", "up"))
        hidden = nn.silu(gate) * up
        return x + constrain(dense(width, "down", nn.initializers.zeros)(hidden), "rows", "length", None).astype(x.dtype)


class TextRefiner(nn.Module):
    """Embeddings of text tokens in packed rows -> embeddings that have seen the rest of their own text."""

    config: TextRefinerConfig
    attention: str = "auto"  # as `make_plan` takes it

    @nn.compact
    def __call__(self, embeddings_BxLxD: jax.Array, segment_ids_BxL: jax.Array, positions_BxL: jax.Array) -> jax.Array:
        """`[B, L, D]` in the embeddings' dtype.

        int32 `segment_ids` are 0 at padding, and at tokens that are no text; a token sees those of its own segment. int32 `positions` are
        places in the text; only their differences matter. What comes out at segment 0 has no meaning.

        Raises UserError where D is no multiple of twice the heads.
        """
        c, width = self.config, embeddings_BxLxD.shape[-1]
        if width % (2 * c.heads):
            raise UserError(f"text refiner: {c.heads} heads for {width} channels, expected a divisor of {width // 2}")
        length, pairs = segment_ids_BxL.shape[1], width // c.heads // 2
        fill = lambda x: jnp.pad(x, ((0, 0), (0, -length % row_multiple(self.attention)), *[(0, 0)] * (x.ndim - 2)))
        x, segment_ids, positions = fill(embeddings_BxLxD), fill(segment_ids_BxL), fill(positions_BxL)
        angles = positions.astype(jnp.float32)[..., None] * c.rope_theta ** (-jnp.arange(pairs, dtype=jnp.float32) / pairs)
        rope, plan = (jnp.cos(angles), jnp.sin(angles)), make_plan(segment_ids, self.attention)
        for number in range(c.depth):
            x = Block(c, name=f"block{number}")(x, rope, plan)
        return x[:, :length]


def forward_flops(config: TextRefinerConfig, width: int, tokens: float, pairs: float) -> float:
    """Floating-point operations owed for one forward pass over text tokens and the (query, key) pairs inside texts; two a multiply-add.

    Padding, masked pairs and element-wise work earn nothing. A training step owes three times this.
    """
    block = 4 * width * width + 3 * width * config.mlp_width(width)
    return config.depth * (2 * tokens * block + 4 * pairs * width)

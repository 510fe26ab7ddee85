"""The text of packed rows -> embeddings at the transformer's width, trained with it.

Text comes in rows of its own, which hold nothing else: what a token of text costs here is paid for text alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp

from videodit.core.errors import UserError
from videodit.models.dense import Dense
from videodit.models.text.refiner import TextRefiner, TextRefinerConfig
from videodit.models.text.refiner import forward_flops as refiner_flops
from videodit.models.text.sharding import EMBEDDER_AXES
from videodit.sharding.rules import constrain

_EPSILON = 1e-6  # of the RMS norms
_BYTES_A_WORD = 6  # about as many as there are, so that their sum starts with unit variance


@dataclass(frozen=True, kw_only=True)
class TextEmbedderConfig:
    """What a token of text is, and the refiner.

    `ids` integers below `vocabulary`, where 0 is padding; or, where there are `widths`, an embedding of so many channels, a part for each
    of several encoders.
    """

    ids: int = 1
    vocabulary: int = 0
    widths: tuple[int, ...] = ()
    refiner: TextRefinerConfig = field(default_factory=TextRefinerConfig)

    def __post_init__(self):
        if bool(self.widths) == bool(self.vocabulary):
            raise UserError(f"text has a vocabulary of {self.vocabulary} and embeddings of {self.widths} channels, expected one of the two")

    @property
    def parts(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """A token of each part."""
        if self.widths:
            return tuple(jax.ShapeDtypeStruct((width,), jnp.bfloat16) for width in self.widths)
        return (jax.ShapeDtypeStruct((self.ids,), jnp.int32),)


class TextEmbedder(nn.Module):
    """Tokens of text -> embeddings.

    A token of several ids, a word of bytes, is a two-layer network over all of them: the first layer is a table for each place in the word,
    whose rows are summed. What an encoder gives is normalised, since encoders differ in scale, and projected.
    """

    config: TextEmbedderConfig
    width: int
    dtype: str = "float32"
    attention: str = "auto"
    remat: bool = False

    @nn.compact
    def __call__(self, parts: Sequence[jax.Array], segment_ids_BxL: jax.Array, positions_BxL: jax.Array) -> jax.Array:
        """`[B, L, width]` for `parts` `[B, L_i, ...]`, one after another along L; `segment_ids` and `positions` are the refiner's."""
        c = self.config
        embedded = [self._project(i, part) for i, part in enumerate(parts)] if c.widths else [self._embed(parts[0])]
        x = constrain(jnp.concatenate(embedded, axis=1).astype(self.dtype), "rows", "length", None)
        if c.refiner.depth == 0:
            return x
        refiner = nn.remat(TextRefiner) if self.remat else TextRefiner
        return refiner(c.refiner, self.attention, name="refiner")(x, segment_ids_BxL, positions_BxL)

    def _embed(self, ids_BxLxI: jax.Array) -> jax.Array:
        c = self.config
        std = 0.5 if c.ids == 1 else _BYTES_A_WORD**-0.5
        table = self.param("embedding", nn.initializers.normal(std), (c.ids, c.vocabulary, self.width))
        table = constrain(table, None, None, None)  # it is small: looked up in parts, all devices' text would go to all
        if c.ids == 1:
            return table[0][ids_BxLxI[..., 0]]

        def add(total, place):
            rows, ids = place
            return total + jnp.where((ids > 0)[..., None], rows[ids], 0), None

        # One place in the word after another: all at once would hold `ids` times what comes out.
        zeros = constrain(jnp.zeros((*ids_BxLxI.shape[:2], self.width)), "rows", "length", None)
        total, _ = jax.lax.scan(add, zeros, (table, jnp.moveaxis(ids_BxLxI, -1, 0)))
        hidden = nn.silu(total + self.param("bias", nn.initializers.zeros, (self.width,)))
        return Dense(self.width, EMBEDDER_AXES["out/kernel"], dtype=self.dtype, name="out")(hidden)

    def _project(self, number: int, embeddings: jax.Array) -> jax.Array:
        h = nn.RMSNorm(epsilon=_EPSILON, dtype=self.dtype, name=f"norm{number}")(embeddings.astype(self.dtype))
        return Dense(self.width, dtype=self.dtype, name=f"project{number}")(h)


def forward_flops(config: TextEmbedderConfig, width: int, tokens: Sequence[float], pairs: float) -> float:
    """Floating-point operations owed for one forward pass over real text `tokens` of each part, and the pairs inside texts.

    Two a multiply-add; look-ups and element-wise work earn nothing. A training step owes three times this.
    """
    inputs = config.widths or (width if config.ids > 1 else 0,)
    projected = sum(2 * count * channels * width for count, channels in zip(tokens, inputs, strict=True))
    return projected + refiner_flops(config.refiner, width, sum(tokens), pairs)

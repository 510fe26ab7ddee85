"""The packed diffusion transformer: one stream of text and patch tokens, many clips a row.

DiT (Peebles and Xie, 2023) conditioned by adaLN, with these choices:
- attention and MLP side by side behind one norm (ViT-22B, 2023; the single-stream blocks of FLUX and HunyuanVideo): half the
  element-wise work of a block that does one after the other, and products that can overlap;
- one modulation network for all blocks, a bias a block (Wan, PixArt-alpha): a quarter fewer parameters, and the cost of a noise
  level for every token is paid once, not once a block;
- RMS-normalised queries and keys (ViT-22B), rotary positions over (time, height, width);
- outputs start at zero, so a new model predicts nothing instead of noise.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from videodit.attention import make_plan, packed_attention
from videodit.core.errors import UserError
from videodit.core.rope import rope_angles, rotate
from videodit.core.segments import TEXT

NOISE_FREQUENCIES = 32  # pairs of the noise level's Fourier features
NOISE_SCALE = 1000.0  # noise levels of 0 to 1 are spread as diffusion steps 0 to 1000 are


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Shape of the transformer. `width` is a multiple of `heads`; a head has an even number of channels.

    `attention`: "auto", by platform and length of the row, or a backend's name (`attention/plan.py`).
    """

    width: int = 192
    depth: int = 6
    heads: int = 4
    mlp_ratio: float = 4.0
    patch: tuple[int, int, int] = (1, 1, 1)
    rope_theta: float = 100.0
    dtype: str = "float32"
    remat: bool = False
    unroll: int = 1
    attention: str = "auto"

    def __post_init__(self):
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UserError(
                f"dit.width={self.width} with dit.heads={self.heads}: the width must be a multiple of twice the number of heads"
            )

    @property
    def mlp_width(self) -> int:
        return int(self.width * self.mlp_ratio)


def fourier(values: jax.Array, frequencies: int, highest: float = 10_000.0) -> jax.Array:
    """`[...]` -> float32 `[..., 2 * frequencies]`: cosines and sines at geometric frequencies (Vaswani et al., 2017, section 3.5)."""
    rates = highest ** (-jnp.arange(frequencies, dtype=jnp.float32) / frequencies)
    angles = values.astype(jnp.float32)[..., None] * rates
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def normalise(x: jax.Array) -> jax.Array:
    """Root-mean-square normalisation over channels, in float32, with no weights."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


class Block(nn.Module):
    """Norm, modulate, then attention and MLP side by side, gated into the stream."""

    config: DiTConfig

    @nn.compact
    def __call__(self, x_BxLxC, modulation_BxLx3C, rope, plan):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        batch, length, width = x_BxLxC.shape
        bias = self.param("modulation_bias", nn.initializers.zeros, (3 * width,))
        shift, scale, gate = jnp.split(modulation_BxLx3C + bias, 3, axis=-1)
        h = (normalise(x_BxLxC) * (1 + scale) + shift).astype(dtype)
        dense = lambda features, name, init=nn.linear.default_kernel_init: nn.Dense(
            features, use_bias=False, dtype=dtype, name=name, kernel_init=init
        )
        qkv, up = dense(3 * width, "qkv")(h), dense(c.mlp_width, "up")(h)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, length, 3, c.heads, -1), 2, 0)
        q = rotate(normalise(q) * self.param("q_scale", nn.initializers.ones, (q.shape[-1],)).astype(dtype), *rope)
        k = rotate(normalise(k) * self.param("k_scale", nn.initializers.ones, (k.shape[-1],)).astype(dtype), *rope)
        attended = packed_attention(q, k, v, plan).reshape(batch, length, width)
        small = nn.initializers.variance_scaling(1.0 / (2 * c.depth), "fan_in", "truncated_normal")
        out = dense(width, "attention_out", small)(attended) + dense(width, "down", small)(nn.gelu(up))
        return (x_BxLxC + gate * out).astype(dtype), None


class DiT(nn.Module):
    """Noised patches and text of packed rows -> what the process asks to be predicted for each patch."""

    config: DiTConfig
    patch_channels: int  # numbers in one patch token: patch volume times latent channels
    vocabulary: int

    @nn.compact
    def __call__(self, patches_BxLxP, noise_level_BxL, row):
        """Predicts `[B, L, P]` in float32.

        `patches` holds the noised patch tokens (anything at text and padding), `noise_level` is 0 (clean) to 1 (noise) a token.
        `row` holds `text_ids` int32 `[B, L]`, `modality` int32 `[B, L]`, `segment_ids` int32 `[B, L]` (0 is padding),
        `positions` int32 `[B, L, 3]` and `extent` int32 `[B, L, 3]`, the sample's own size in patches.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        text = nn.Embed(self.vocabulary, c.width, name="text_embed", embedding_init=nn.initializers.normal(0.5))(row["text_ids"])
        patch = nn.Dense(c.width, name="patch_embed")(patches_BxLxP)
        x = jnp.where((row["modality"] == TEXT)[..., None], text, patch).astype(dtype)

        features = jnp.concatenate(
            [fourier(noise_level_BxL * NOISE_SCALE, NOISE_FREQUENCIES), jnp.log1p(row["extent"].astype(jnp.float32))], axis=-1
        )
        condition = nn.silu(nn.Dense(c.width, name="condition_in")(features))
        modulation = nn.Dense(
            3 * c.width,
            name="modulation",
            kernel_init=nn.initializers.normal(0.02),
            bias_init=lambda key, shape, dtype=jnp.float32: jnp.concatenate([jnp.zeros(2 * c.width), jnp.ones(c.width)]),
        )(condition)
        rope = rope_angles(row["positions"], c.width // c.heads, c.rope_theta)

        block = nn.remat(Block, prevent_cse=False) if c.remat else Block
        x, _ = nn.scan(
            block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=c.depth, unroll=c.unroll
        )(c, name="blocks")(x, modulation, rope, make_plan(row["segment_ids"], c.attention))

        shift, scale = jnp.split(nn.Dense(2 * c.width, name="final_modulation", kernel_init=nn.initializers.zeros)(condition), 2, axis=-1)
        x = normalise(x.astype(jnp.float32)) * (1 + scale) + shift
        return nn.Dense(self.patch_channels, name="head", kernel_init=nn.initializers.zeros)(x)


def forward_flops(config: DiTConfig, patch_channels: int, text_tokens: float, patch_tokens: float, pairs: float) -> float:
    """Floating-point operations owed for one forward pass over real tokens and the (query, key) pairs inside clips.

    Two a multiply-add. Padding and masked pairs earn nothing; neither do element-wise work and the embedding look-up.
    A training step owes three times this. PaLM (Chowdhery et al., 2022), appendix B.
    """
    c, tokens = config, text_tokens + patch_tokens
    block = c.width * (3 * c.width + c.mlp_width) + (c.width + c.mlp_width) * c.width
    condition = (2 * NOISE_FREQUENCIES + 3) * c.width + c.width * 5 * c.width
    return 2 * (tokens * (c.depth * block + condition) + patch_tokens * 2 * patch_channels * c.width) + 4 * pairs * c.width * c.depth

"""The packed diffusion transformer: one stream of text and patch tokens, many clips a row.

DiT (Peebles and Xie, 2023) conditioned by adaLN, with these choices:
- attention and MLP side by side behind one norm (ViT-22B, 2023; the single-stream blocks of FLUX and HunyuanVideo): half the
  element-wise work of a block that does one after the other, and products that can overlap;
- one modulation network for all blocks, a bias a block (Wan, PixArt-alpha): a quarter fewer parameters, and the cost of a noise
  level for every token is paid once, not once a block;
- RMS-normalised queries and keys (ViT-22B), rotary positions over (time, height, width);
- outputs start at zero, so a new model predicts nothing instead of noise.
"""

from collections.abc import Sequence
import dataclasses
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from videodit.attention import ATTENDED, make_plan, packed_attention
from videodit.core.errors import UserError
from videodit.core.rope import rope_angles, rotate
from videodit.core.segments import TEXT, text_name
from videodit.models.dense import Dense
from videodit.models.dit.sharding import AXES
from videodit.models.text.embedder import TextEmbedder, TextEmbedderConfig
from videodit.sharding.rules import constrain

NOISE_FREQUENCIES = 32  # pairs of the noise level's Fourier features
NOISE_SCALE = 1000.0  # noise levels of 0 to 1 are spread as diffusion steps 0 to 1000 are


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Shape of the transformer. `width` is a multiple of `heads`; a head has an even number of channels.

    `mlp`: "gelu", or "swiglu" (Shazeer, 2020) with two thirds of its width and so as many parameters, which learns faster
    (experiments/benchmarks/results/vary.md). `mlp_ratio`: the GELU's width over `width`. `rope_extent`: the most (time, height, width), in
    patches, that training shows; a longer side stretches the slow rotations of its axis and leaves the fast ones (NTK-aware interpolation,
    bloc97, 2023; Peng et al., "YaRN", 2023, section 3.1), and a shorter one changes nothing. `dtype` is of products and activations;
    parameters, norms, modulation and softmax are float32. `remat`: what the backward pass keeps of a layer: "none" recomputes nothing,
    "full" keeps its input alone, "named" also queries, keys and values, what attention gave and what the layer gives, so that of all
    products the MLP's first alone is done again, "offload" keeps its input in the host's memory. `unroll`: layers a step of the scan.
    `attention`: "auto", by platform and length of the row, or a backend's name (`attention/plan.py`). `context_attention`: how devices
    that share rows (mesh axis `context`) meet: "gather" gathers a row's keys and values on each, of any number of heads; "all_to_all"
    splits heads instead of the row, and sends least; "ring" passes keys and values round, and holds least.
    """

    width: int = 192
    depth: int = 6
    heads: int = 4
    mlp_ratio: float = 4.0
    patch: tuple[int, int, int] = (1, 1, 1)
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    rope_theta: float = 100.0
    rope_extent: tuple[int, int, int] = (256, 256, 256)
    dtype: str = "float32"
    remat: Literal["none", "full", "named", "offload"] = "none"
    unroll: int = 1
    attention: str = "auto"
    context_attention: Literal["gather", "all_to_all", "ring"] = "gather"

    def __post_init__(self):
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UserError(
                f"dit.width={self.width} with dit.heads={self.heads}: the width must be a multiple of twice the number of heads"
            )

    @property
    def mlp_width(self) -> int:
        """Channels between the MLP's two layers; with SwiGLU a multiple of 64, of 256 from width 1,024 on, so that meshes split it."""
        if self.mlp == "gelu":
            return int(self.width * self.mlp_ratio)
        multiple = 256 if self.width >= 1024 else 64
        return -(-int(self.width * self.mlp_ratio * 2 / 3) // multiple) * multiple

    @property
    def ups(self) -> int:
        """How many times `mlp_width` channels the MLP's first layer gives: with SwiGLU there is a gate for each."""
        return 2 if self.mlp == "swiglu" else 1


_STREAM = ("rows", "stream", None)  # what goes from layer to layer lies so; the layers' products need lengths whole
_PROJECTED, _GIVEN = "queries_keys_values", "given"


def rematerialised(config: DiTConfig) -> type[nn.Module]:
    """`Block` under the config's remat policy."""
    if config.remat == "none":
        return Block
    policies = jax.checkpoint_policies
    policy = {
        "full": lambda: policies.nothing_saveable,
        "named": lambda: policies.save_only_these_names(_PROJECTED, ATTENDED, _GIVEN),
        "offload": lambda: policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[], names_which_can_be_offloaded=["layer_input"], offload_src="device", offload_dst="pinned_host"
        ),
    }[config.remat]()
    return nn.remat(Block, prevent_cse=False, policy=policy)


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
        x_BxLxC = checkpoint_name(constrain(x_BxLxC, *_STREAM), "layer_input")
        bias = self.param("modulation_bias", nn.initializers.zeros, (3 * width,))
        shift, scale, gate = jnp.split(modulation_BxLx3C + bias, 3, axis=-1)
        h = constrain((normalise(x_BxLxC) * (1 + scale) + shift).astype(dtype), "rows", "length", None)
        dense = lambda features, name, init=nn.linear.default_kernel_init: Dense(
            features, AXES[f"blocks/{name}/kernel"][1:], use_bias=False, dtype=dtype, name=name, kernel_init=init
        )
        qkv = constrain(dense((3, c.heads, width // c.heads), "qkv")(h), "rows", "length", None, "heads", None)
        qkv = checkpoint_name(qkv, _PROJECTED)  # before they are normalised and rotated, whose gradients ask for these
        up = constrain(dense((c.ups, c.mlp_width), "up")(h), "rows", "length", None, "mlp")
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        q = rotate(normalise(q) * self.param("q_scale", nn.initializers.ones, (q.shape[-1],)).astype(dtype), *rope)
        k = rotate(normalise(k) * self.param("k_scale", nn.initializers.ones, (k.shape[-1],)).astype(dtype), *rope)
        q, k, v = (constrain(each, "rows", "length", "heads", None) for each in (q, k, v))
        attended = packed_attention(q, k, v, plan).reshape(batch, length, width)
        hidden = nn.gelu(up[..., 0, :]) if c.mlp == "gelu" else nn.silu(up[..., 0, :]) * up[..., 1, :]
        hidden = constrain(hidden, "rows", "length", "mlp")
        small = nn.initializers.variance_scaling(1.0 / (2 * c.depth), "fan_in", "truncated_normal")
        out = constrain(dense(width, "attention_out", small)(attended) + dense(width, "down", small)(hidden), *_STREAM)
        out = checkpoint_name(out, _GIVEN)  # its gate's gradient asks for it
        return (x_BxLxC + gate * out).astype(dtype), None


class DiT(nn.Module):
    """Noised patches and text of packed rows -> what the process asks to be predicted for each patch."""

    config: DiTConfig
    patch_channels: int  # numbers in one patch token: patch volume times latent channels
    text: TextEmbedderConfig

    @nn.compact
    def __call__(self, patches_BxLxP, noise_level_BxL, row):
        """Predicts `[B, L, P]` in float32.

        `patches` holds the noised patch tokens (anything at text and padding), `noise_level` is 0 (clean) to 1 (noise) a token.
        `row` holds `modality` int32 `[B, L]`, `segment_ids` int32 `[B, L]` (0 is padding), `positions` int32 `[B, L, 3]` and `extent` int32
        `[B, L, 3]`, the sample's own size in patches, and `time_step` float32 `[B, L]`, how long its frames last, 1 at the rate trained for
        (anything at padding). The text lies beside it, `[B, T]`: its parts `text_0`, ... one after another, int32
        `text_segment_ids` (the row's own) and `text_positions` (places in the sample's text); `text_place` int32 `[B, L]` says where along
        T a text token of the row is. As `row_shapes` has it.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        parts = [row[text_name(part)] for part in range(len(self.text.parts))]
        embedder = TextEmbedder(self.text, c.width, c.dtype, c.attention, c.remat != "none", name="text_embed")
        text = constrain(embedder(parts, row["text_segment_ids"], row["text_positions"]), "rows", None, None)
        text = jnp.take_along_axis(text, row["text_place"][..., None], axis=1)
        patch = Dense(c.width, name="patch_embed")(patches_BxLxP)
        x = constrain(jnp.where((row["modality"] == TEXT)[..., None], text, patch).astype(dtype), *_STREAM)

        time_step = jnp.where(row["segment_ids"] > 0, row["time_step"], 1.0)[..., None]
        level, size = fourier(noise_level_BxL * NOISE_SCALE, NOISE_FREQUENCIES), row["extent"].astype(jnp.float32)
        features = jnp.concatenate([level, jnp.log1p(size), jnp.log(time_step)], axis=-1)
        condition = nn.silu(Dense(c.width, name="condition_in")(constrain(features, *_STREAM)))
        modulation = Dense(
            3 * c.width,
            name="modulation",
            kernel_init=nn.initializers.normal(0.02),
            bias_init=lambda key, shape, dtype=jnp.float32: jnp.concatenate([jnp.zeros(2 * c.width), jnp.ones(c.width)]),
        )(condition)
        in_time = lambda places, step: places * jnp.concatenate([step, jnp.ones((*step.shape[:-1], 2))], axis=-1)
        of_patches = jnp.where((row["modality"] == TEXT)[..., None], 1.0, time_step)  # text is as far from the first frame at any rate
        positions = in_time(row["positions"], of_patches)
        rope = rope_angles(positions, in_time(size, time_step), c.width // c.heads, c.rope_theta, c.rope_extent)
        rope = jax.tree.map(lambda each: constrain(each, "rows", "length", *[None] * (each.ndim - 2)), rope)
        x, _ = nn.scan(
            rematerialised(c),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=c.depth,
            unroll=c.unroll,
        )(c, name="blocks")(x, modulation, rope, make_plan(row["segment_ids"], c.attention, context=c.context_attention))

        shift, scale = jnp.split(Dense(2 * c.width, name="final_modulation", kernel_init=nn.initializers.zeros)(condition), 2, axis=-1)
        x = normalise(x.astype(jnp.float32)) * (1 + scale) + shift
        return Dense(self.patch_channels, name="head", kernel_init=nn.initializers.zeros)(x)


def init_parameters(model: DiT, key: jax.Array):
    """The parameters of a new model. They do not depend on the form of attention, and the row that they are made with is too short for
    most."""
    module = DiT(dataclasses.replace(model.config, attention="reference"), model.patch_channels, model.text)
    row = {name: jnp.zeros(each.shape, each.dtype) for name, each in row_shapes(model.text, 1, 2, [1] * len(model.text.parts)).items()}
    return module.init(key, jnp.zeros((1, 2, model.patch_channels)), jnp.zeros((1, 2)), row)["params"]


def row_shapes(text: TextEmbedderConfig, rows: int, length: int, slots: Sequence[int]) -> dict[str, jax.ShapeDtypeStruct]:
    """What `DiT` reads of a batch of packed rows of `length` tokens, with so many `slots` for each part of their text."""
    of = lambda length, shape=(), dtype=jnp.int32: jax.ShapeDtypeStruct((rows, length, *shape), dtype)
    return {
        **{name: of(length) for name in ("modality", "segment_ids", "text_place")},
        **{name: of(length, (3,)) for name in ("positions", "extent")},
        "time_step": of(length, dtype=jnp.float32),
        **{name: of(sum(slots)) for name in ("text_segment_ids", "text_positions")},
        **{text_name(part): of(slots[part], token.shape, token.dtype) for part, token in enumerate(text.parts)},
    }


def forward_flops(config: DiTConfig, patch_channels: int, text_tokens: float, patch_tokens: float, pairs: float) -> float:
    """Floating-point operations owed for one forward pass over real tokens and the (query, key) pairs inside clips.

    Two a multiply-add. Padding and masked pairs earn nothing; neither does element-wise work. What the text is owed before it stands in the
    row is counted by `models.text.embedder.forward_flops`.
    A training step owes three times this. PaLM (Chowdhery et al., 2022), appendix B.
    """
    c, tokens = config, text_tokens + patch_tokens
    block = c.width * (3 * c.width + c.ups * c.mlp_width) + (c.width + c.mlp_width) * c.width
    condition = (2 * NOISE_FREQUENCIES + 4) * c.width + c.width * 5 * c.width
    return 2 * (tokens * (c.depth * block + condition) + patch_tokens * 2 * patch_channels * c.width) + 4 * pairs * c.width * c.depth

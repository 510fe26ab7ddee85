"""The encoders of T5, T5 v1.1, mT5, ByT5 and UMT5, for public weights that are held fixed.

"Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (Raffel et al., 2020), section 2.1; gated
linear units after "GLU Variants Improve Transformer" (Shazeer, 2020); "ByT5" (Xue et al., 2022); "UniMax" (Chung et al., 2023) for UMT5,
whose layers have a table of relative positions each.

Layers are scanned. For 8 texts of 128 tokens, T5-XXL in float32 then compiled for the CPU in 0.8 s and took 0.8 GB beside its weights;
24 layers one after another took 3.3 s and 18.6 GB. (bfloat16 takes 19 GB there: XLA's CPU backend widens all weights first.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError

MASKED = -1e9  # finite, so that a row of padding gives numbers and not NaN
_ACTIVATIONS = {"relu": nn.relu, "gelu": lambda x: nn.gelu(x, approximate=False), "gelu_new": nn.gelu, "silu": nn.silu}
_KINDS = {"t5": False, "mt5": False, "umt5": True}  # transformers' model_type: has every layer a relative bias of its own?


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Shape of an encoder.

    `width`: channels of the stream and of what comes out; `depth`: layers; `heads` of `head_dim` channels each, whose product need not be
    the width; `mlp_width`: hidden channels; `activation` of the MLP, `gated` by a second product or not; `bias_per_layer`: a table of
    relative positions in every layer (UMT5), else one for all; `buckets`: rows of that table; `max_distance`: tokens from which on
    all distances are one bucket; `norm_epsilon`: of the RMS norms; `dtype`: of weights and products, "float32" or "bfloat16".
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    head_dim: int
    mlp_width: int
    activation: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    gated: bool = False
    bias_per_layer: bool = False
    buckets: int = 32
    max_distance: int = 128
    norm_epsilon: float = 1e-6
    dtype: Literal["float32", "bfloat16"] = "float32"


def t5_config(told: Mapping[str, Any], dtype: str = "float32") -> T5Config:
    """The encoder that a transformers `config.json` tells of. Raises UserError where it is of another kind of model, or lacks a key."""
    kind = told.get("model_type")
    if kind not in _KINDS:
        raise UserError(f"the text encoder's config.json has model_type {kind!r}, expected one of {', '.join(_KINDS)}")
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f"the text encoder's dtype is {dtype!r}, expected 'float32' or 'bfloat16'")
    *gated, activation = told.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu").split("-")
    activation = "gelu_new" if gated and activation == "gelu" else activation
    if gated not in ([], ["gated"]) or activation not in _ACTIVATIONS:
        raise UserError(f"the text encoder's feed_forward_proj is {told['feed_forward_proj']!r}, expected 'relu' or 'gated-gelu'")
    try:
        return T5Config(
            vocabulary=told["vocab_size"],
            width=told["d_model"],
            depth=told["num_layers"],
            heads=told["num_heads"],
            head_dim=told["d_kv"],
            mlp_width=told["d_ff"],
            activation=activation,
            gated=bool(gated),
            bias_per_layer=_KINDS[kind],
            buckets=told.get("relative_attention_num_buckets", 32),
            max_distance=told.get("relative_attention_max_distance", 128),
            norm_epsilon=told.get("layer_norm_epsilon", 1e-6),
            dtype=dtype,
        )
    except KeyError as missing:
        raise UserError(f"the text encoder's config.json has no key {missing}") from missing


def relative_buckets(length: int, buckets: int, max_distance: int) -> np.ndarray:
    """int32 `[length, length]`: the bucket, 0 to `buckets` - 1, of (query, key), by the key's place less the query's.

    Half of the buckets for keys ahead; of each half, half for exact distances and the rest growing geometrically to `max_distance`. Made on
    the host: a device's logarithm may round to the next bucket.
    """
    place = np.arange(length, dtype=np.int32)
    relative = place[None, :] - place[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = np.abs(relative)
    scaled = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    far = np.minimum(exact + (scaled * np.float32(half - exact)).astype(np.int32), half - 1)
    return np.where(relative > 0, half, 0).astype(np.int32) + np.where(distance < exact, distance, far).astype(np.int32)


def _dense(config: T5Config, features: int, name: str) -> nn.Dense:
    dtype = jnp.dtype(config.dtype)
    return nn.Dense(features, use_bias=False, dtype=dtype, param_dtype=dtype, precision=_precision(config), name=name)


def _precision(config: T5Config) -> jax.lax.Precision | None:
    """float32 means float32 on accelerators too, whose default is shorter: outputs are made once and cached."""
    return jax.lax.Precision.HIGHEST if config.dtype == "float32" else None


class Block(nn.Module):
    """Attention, then MLP, each behind an RMS norm. The stream, norms, logits and softmax are float32."""

    config: T5Config

    @nn.compact
    def __call__(self, x_BxLxC, mask_BxL, buckets_LxL, bias_HxLxL):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        batch, length, width = x_BxLxC.shape
        norm = lambda name: nn.RMSNorm(epsilon=c.norm_epsilon, dtype=jnp.float32, name=name)
        dense = lambda features, name: _dense(c, features, name)
        if c.bias_per_layer:
            bias_HxLxL = _bias(self, buckets_LxL)

        h = norm("attention_norm")(x_BxLxC)
        q, k, v = (dense(c.heads * c.head_dim, name)(h).reshape(batch, length, c.heads, c.head_dim) for name in ("query", "key", "value"))
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, precision=_precision(c), preferred_element_type=jnp.float32)
        logits = jnp.where(mask_BxL[:, None, None, :], logits + bias_HxLxL, MASKED)  # T5 does not scale logits
        weights = jax.nn.softmax(logits, axis=-1).astype(dtype)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, v, precision=_precision(c)).reshape(batch, length, -1)
        x = x_BxLxC + dense(width, "attention_out")(attended).astype(jnp.float32)

        h = norm("mlp_norm")(x)
        activation = _ACTIVATIONS[c.activation]
        up = dense(c.mlp_width, "up")(h)
        hidden = activation(dense(c.mlp_width, "gate")(h)) * up if c.gated else activation(up)
        return x + dense(width, "down")(hidden).astype(jnp.float32), None


def _bias(module: nn.Module, buckets_LxL: jax.Array) -> jax.Array:
    """`[H, L, L]`: what is added to logits for the distance of query and key, from the module's own table."""
    c = module.config
    table = module.param("relative_bias", nn.initializers.normal(c.width**-0.5), (c.buckets, c.heads))
    return table[buckets_LxL].transpose(2, 0, 1)


class T5Encoder(nn.Module):
    """Token ids -> an embedding of each token in its text."""

    config: T5Config

    @nn.compact
    def __call__(self, ids_BxL: jax.Array, mask_BxL: jax.Array) -> jax.Array:
        """float32 `[B, L, width]` for int32 ids below the vocabulary; bool `mask` is True at tokens, False at padding, which no token sees.

        What comes out at padding has no meaning.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        x = nn.Embed(c.vocabulary, c.width, dtype=dtype, param_dtype=dtype, name="token_embed")(ids_BxL).astype(jnp.float32)
        buckets = jnp.asarray(relative_buckets(ids_BxL.shape[1], c.buckets, c.max_distance))
        shared = None if c.bias_per_layer else _bias(self, buckets)
        x, _ = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=c.depth)(
            c, name="blocks"
        )(x, mask_BxL, buckets, shared)
        return nn.RMSNorm(epsilon=c.norm_epsilon, dtype=jnp.float32, name="final_norm")(x)

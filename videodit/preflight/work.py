"""What a step of a config has to do, over all devices: tokens, and the FLOPs that it owes, recomputes and spends in attention."""

from dataclasses import dataclass
import functools
from typing import Any

import jax
import jax.numpy as jnp

from videodit.attention.splash import fused_keys
from videodit.models.dit.model import forward_flops
from videodit.models.text.embedder import forward_flops as text_flops
from videodit.preflight.compile import job_model, train_batch
from videodit.training.config import ExperimentConfig
from videodit.training.jobs import planned_slots
from videodit.training.models import DiTModel


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of a train step, over all devices. `unit`: of `items`, tokens or clips. `model_flops`: owed, three times the forward pass over real
    tokens and the pairs inside clips. `recomputed_flops`: done again by the backward pass (remat), attention aside. `attention_flops`: of
    one forward pass's attention, which `model_flops` holds three times; `attention_passes`: how many of these the kernels take time for.
    """

    unit: str
    items: float
    model_flops: float
    recomputed_flops: float = 0.0
    attention_flops: float = 0.0
    attention_passes: float = 0.0

    @property
    def product_flops(self) -> float:
        """Of all that is no attention, with what is done again."""
        return self.model_flops - 3 * self.attention_flops + self.recomputed_flops


def train_work(config: ExperimentConfig) -> Work:
    """Rows are taken to be full of the largest clips that the latents' policy lets in, with the longest captions; of a VAE, clips of the
    largest size."""
    model = job_model(config)
    if not isinstance(model, DiTModel):
        return _vae_work(config, model)
    rows, length, most = config.packing.rows, config.packing.length, config.packing.max_text_tokens
    slots = planned_slots(config)
    limits = [min(most, each.max_tokens) for each in config.text.encoders] or [most]
    clip = min(config.latents.policy.max_tokens + sum(limits), length)
    clips = length / clip
    text = clips * min(sum(limits), clip)
    flops = functools.partial(forward_flops, model.config, model.patch_channels)
    own = flops(text, length - text, clips * clip**2)
    # As many real tokens of text as clips have, of the slots that there are.
    tokens = [min(clips * limit, slot) for limit, slot in zip(limits, slots)]
    of_text = text_flops(model.text, model.width, tokens, clips * sum(limits) ** 2)
    attention = own - flops(text, length - text, 0)
    again = {"none": 0.0, "named": _first_of_mlp(model.config, length), "full": own - attention, "offload": own - attention}
    passes = 1 + _backward_products(config) / 2 + (model.config.remat in ("full", "offload"))
    return Work(
        unit="tokens",
        items=rows * length,
        model_flops=3 * rows * (own + of_text),
        recomputed_flops=rows * again[model.config.remat],
        attention_flops=rows * attention,
        attention_passes=passes,
    )


def _backward_products(config: ExperimentConfig) -> int:
    """Products of queries and keys in attention's backward kernels, for the forward pass's two."""
    mesh = config.mesh
    length, c = config.packing.length // mesh.context, config.dit
    queries = (max(1, config.packing.rows // config.train.accumulate // (max(1, mesh.data) * mesh.fsdp)), length, c.heads // mesh.tensor)
    keys = length if c.context_attention == "ring" else config.packing.length
    return 5 if fused_keys((*queries, c.width // c.heads), jnp.dtype(c.dtype).itemsize, keys, 512) else 7


def _first_of_mlp(config: Any, tokens: float) -> float:
    """What the backward pass does again under remat="named": the MLP's first product."""
    return 2 * tokens * config.depth * config.width * config.ups * config.mlp_width


def _vae_work(config: ExperimentConfig, model: Any) -> Work:
    """As XLA counts the operations of a forward pass, before it compiles them."""
    pixels = train_batch(config, model)["pixels"]
    params = jax.eval_shape(model.init, jax.random.key(0))
    forward = jax.jit(lambda p, x: model.module.apply({"params": p}, x, jax.random.key(0)))
    one = jax.ShapeDtypeStruct((1, *pixels.shape[1:]), jnp.float32)
    return Work(unit="clips", items=pixels.shape[0], model_flops=3 * pixels.shape[0] * forward.lower(params, one).cost_analysis()["flops"])

"""Every matrix of the encoders and of the refiner is split over a mesh, by embedding and by heads or hidden channels."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
import pytest

from videodit.models.text.refiner import TextRefiner, TextRefinerConfig
from videodit.models.text.sharding import REFINER_AXES, T5_AXES
from videodit.models.text.t5 import T5Encoder, t5_config
from videodit.sharding.mesh import AXES
from videodit.sharding.rules import tree_shardings

SHAPE = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}
IDS = jnp.ones((1, 4), int)


def shapes_of(module, *inputs):
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        (shapes_of(T5Encoder(t5_config({"model_type": "umt5", **SHAPE})), IDS, IDS > 0), T5_AXES),
        (shapes_of(T5Encoder(t5_config({"model_type": "t5", **SHAPE})), IDS, IDS > 0), T5_AXES),
        ({"text_refiner": shapes_of(TextRefiner(TextRefinerConfig(heads=2)), jnp.ones((1, 4, 16)), IDS, IDS)}, REFINER_AXES),
    ],
    ids=["umt5", "t5", "refiner"],
)
def test_every_matrix_is_split_both_ways_and_a_stacks_layers_are_not(shapes, axes):
    found = tree_shardings(shapes, axes, AbstractMesh((1, 2, 2, 1), AXES))
    for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(found)):
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            both = [PartitionSpec(*[None] * (leaf.ndim - 2), *axes) for axes in (("fsdp", "tensor"), ("tensor", "fsdp"))]
            assert sharding.spec in both, name
        else:
            assert sharding.spec == (PartitionSpec(None, "fsdp") if "token_embed" in name else PartitionSpec()), name

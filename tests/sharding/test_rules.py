"""Logical axes become partitions: what the mesh divides is split, and optimizer state lies as its parameters do."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
import optax
import pytest

from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.sharding.mesh import AXES
from videodit.sharding.rules import batch_shardings, spec_of, tree_shardings
from videodit.training.models import DiTModel
from videodit.training.state import init_state


def mesh(data=1, fsdp=1, tensor=1, context=1):
    return AbstractMesh((data, fsdp, tensor, context), AXES)


@pytest.mark.parametrize(
    ("axes", "shape", "sizes", "wanted"),
    [
        (("rows", "length"), (8, 16), {"data": 8}, (("data",), None)),
        (("rows", "length"), (8, 16), {"data": 2, "fsdp": 4}, (("data", "fsdp"), None)),
        (("rows", "length"), (4, 16), {"data": 2, "fsdp": 4}, (("data",), None)),  # 2 rows are left, which 4 do not divide
        (("rows", "length"), (3, 16), {"data": 2}, (None, None)),
        (("rows", "length"), (8, 16), {"context": 2}, (None, ("context",))),
        (("embed", "mlp"), (16, 12), {"fsdp": 4, "tensor": 2}, (("fsdp",), ("tensor",))),
        ((None, "heads"), (4, 6), {"tensor": 4}, (None, None)),
        ((), (), {"data": 8}, ()),
    ],
)
def test_an_axis_is_split_where_the_mesh_divides_it(axes, shape, sizes, wanted):
    assert spec_of(axes, shape, mesh(**sizes)) == PartitionSpec(*wanted)


def test_axes_and_shape_must_be_of_one_length():
    with pytest.raises(ValueError):
        spec_of(("rows",), (4, 4), mesh(data=2))


@pytest.fixture(scope="module")
def state():
    text = TextEmbedderConfig(ids=4, vocabulary=32, refiner=TextRefinerConfig(heads=2))
    model = DiTModel(config=DiTConfig(width=16, depth=2, heads=2), process=ProcessConfig(), latent_channels=8, text=text)
    return model, jax.eval_shape(lambda: init_state(model, optax.adamw(1e-3), 0))


def test_averages_and_moments_lie_as_their_parameters_do(state):
    model, shapes = state
    found = tree_shardings(shapes, model.axes, mesh(fsdp=2, tensor=2))
    assert found["ema"] == found["params"] == found["opt_state"][0].mu == found["opt_state"][0].nu
    assert found["step"].spec == PartitionSpec() == found["opt_state"][0].count.spec


def test_every_matrix_of_the_transformer_is_split_over_fsdp(state):
    model, shapes = state
    found = tree_shardings(shapes["params"], model.axes, mesh(fsdp=2))
    for (path, _), sharding in zip(jax.tree_util.tree_leaves_with_path(shapes["params"]), jax.tree.leaves(found)):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert ("fsdp" in str(sharding.spec)) == name.endswith(("kernel", "embedding")), name


def test_a_pattern_names_whole_parts_of_a_path():
    tree = {"head": {"kernel": jnp.zeros((4, 4))}, "forehead": {"kernel": jnp.zeros((4, 4))}, "head2": {"kernel": jnp.zeros(4)}}
    found = tree_shardings(tree, {"head/kernel": ("embed", None)}, mesh(fsdp=2))
    assert [found[name]["kernel"].spec for name in tree] == [PartitionSpec(("fsdp",), None), PartitionSpec(), PartitionSpec()]


def test_rows_of_a_batch_are_split_and_the_length_of_packed_ones_or_the_height_and_width_of_pixels():
    batch = {"patches": jnp.zeros((4, 8, 2)), "segment_ids": jnp.zeros((4, 8), jnp.int32), "pixels": jnp.zeros((4, 8, 8, 8, 3))}
    found = batch_shardings(batch, mesh(data=2, context=2))
    assert found["patches"].spec == PartitionSpec(("data",), ("context",), None)
    assert found["segment_ids"].spec == PartitionSpec(("data",), ("context",))
    assert found["pixels"].spec == PartitionSpec(("data",), None, ("context",), None, None)
    found = batch_shardings(batch, mesh(data=2, context=2, tensor=2))
    assert found["pixels"].spec == PartitionSpec(("data",), None, ("context",), ("tensor",), None)

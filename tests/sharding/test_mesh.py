"""A mesh holds every device, or says what does not fit."""

import jax
import pytest

from videodit.core.errors import UserError
from videodit.sharding.mesh import AXES, MeshConfig, make_mesh


@pytest.mark.parametrize(
    "wrong", [{"data": 3}, {"data": 4}, {"data": 0}, {"data": -2}, {"data": 16}, {"fsdp": -1}, {"fsdp": 3}, {"data": 4, "tensor": 4}]
)
def test_axes_that_do_not_multiply_to_the_devices_are_named(wrong):
    with pytest.raises(UserError, match=r"mesh \{.*\} does not fit 8 devices"):
        make_mesh(MeshConfig(**wrong), [None] * 8)


def test_what_is_left_goes_to_the_axis_that_asks_for_it():
    mesh = make_mesh(MeshConfig(data=1, context=-1))
    assert mesh.axis_names == AXES and mesh.shape["context"] == len(jax.devices())

"""LPIPS is what the lpips package computes, has gradients everywhere, and says which file is wrong."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from videodit.core.errors import UserError
from videodit.models.vae.perceptual import load_weights, lpips

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "lpips.json").read_text())


def random_weights(shapes, seed):
    """As golden/make_lpips.py draws them."""
    random, found = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        drawn = random.standard_normal(shape)
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[name] = (np.abs(drawn) if name.startswith("lin") else drawn * scale).astype(np.float32)
    return found


def pictures(count, side, seed):
    made = np.random.default_rng(seed).uniform(-1, 1, (2, count, side, side, 3)).astype(np.float32)
    made[1, 0] = made[0, 0]
    return made


def saved(weights, folder):
    """The two files."""
    for file, part in (("network", "features."), ("heads", "lin")):
        save_file({name: value for name, value in weights.items() if name.startswith(part)}, folder / f"{file}.safetensors")
    return folder / "network.safetensors", folder / "heads.safetensors"


@pytest.fixture(scope="module", params=GOLDEN)
def net(request, tmp_path_factory):
    golden = GOLDEN[request.param]
    weights = random_weights(golden["shapes"], golden["seed"])
    return golden, load_weights(*saved(weights, tmp_path_factory.mktemp(request.param)))


def test_distances_are_those_of_the_lpips_package(net):
    golden, weights = net
    a, b = pictures(3, golden["side"], golden["seed"] + 1)
    found = jax.jit(lpips)(weights, a, b)
    np.testing.assert_allclose(found, golden["distances"], rtol=1e-4, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda b: lpips(weights, a, b).sum()))(b)
    assert found[0] < 1e-12 and found[1] > 0
    np.testing.assert_allclose(jnp.abs(gradient[1]).sum(), golden["gradient"], rtol=1e-3)


def test_each_frame_of_a_video_is_judged_alone(net):
    golden, weights = net
    a, b = (jnp.asarray(each[1:]) for each in pictures(3, golden["side"], golden["seed"] + 1))
    videos = jnp.stack([a, b])  # two clips of two frames
    found = jax.jit(lpips)(weights, videos, videos[::-1])
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found, [golden["distances"][1:]] * 2, rtol=1e-4)


def test_a_picture_without_any_feature_has_a_gradient(net):
    golden, weights = net
    dead = {name: -jnp.abs(value) if name.endswith("bias") else value for name, value in weights.items()}
    grey = jnp.full((1, golden["side"], golden["side"], 3), jnp.array([-0.030, -0.088, -0.188]))
    distance, gradient = jax.jit(jax.value_and_grad(lambda b: lpips(dead, grey, b).sum()))(grey)
    assert distance == 0 and np.isfinite(gradient).all()


def test_pictures_too_small_for_the_network_are_named(net):
    golden, weights = net
    with pytest.raises(UserError, match=r"LPIPS by .* of 24x8 pixels: expected"):
        lpips(weights, jnp.zeros((1, 8, 24, 3)), jnp.zeros((1, 8, 24, 3)))


def test_files_that_are_missing_or_something_else_are_named(tmp_path):
    golden = GOLDEN["alex"]
    weights = random_weights(golden["shapes"], 0)
    network, heads = saved(weights, tmp_path)
    with pytest.raises(UserError, match="nowhere.safetensors' is no file"):
        load_weights(tmp_path / "nowhere.safetensors", heads)
    with pytest.raises(UserError, match="network.safetensors' lacks lin0.model.1.weight of 64 values"):
        load_weights(network, network)
    with pytest.raises(UserError, match="heads.safetensors' holds the features of neither VGG16 nor AlexNet"):
        load_weights(heads, heads)
    save_file({name: value for name, value in weights.items() if name.startswith("features.") and ".8." not in name}, network)
    with pytest.raises(UserError, match="lacks features.8.weight of torchvision's AlexNet"):
        load_weights(network, heads)
    heads.write_bytes(b"PK\x03\x04 a zip, as .pth files are")
    save_file({name: value for name, value in weights.items() if name.startswith("features.")}, network)
    with pytest.raises(UserError, match="heads.safetensors' is no safetensors file"):
        load_weights(network, heads)

"""Public weights give what the original implementations give. The files are small, and made by make_wan_golden.py."""

import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from videodit.core.errors import UserError
from videodit.models.vae.model import VAE
from videodit.models.vae.wan import load_wan, params_from_wan, wan_config

GOLDEN = pathlib.Path(__file__).with_name("golden")
STATISTICS = {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1.5, 0.5, 2.0, 1.0]}


@pytest.fixture(params=["diffusers_2.1", "diffusers_2.2", "authors_2.1", "authors_2.2"])
def public(request, tmp_path):
    """(path that a person would give, what the original makes of a video)."""
    name, values = request.param, np.load(GOLDEN / f"{request.param}.npz")
    if name.startswith("diffusers"):
        return GOLDEN / name, values
    path = tmp_path / "vae.safetensors"
    path.write_bytes((GOLDEN / f"{name}.safetensors").read_bytes())
    if name.endswith("2.2"):
        (tmp_path / "config.json").write_text(json.dumps(STATISTICS))
    return path, values


def video(shape):
    batch, frames, height, width, channels = shape
    return np.random.default_rng(0).uniform(-1, 1, (batch, channels, frames, height, width)).astype(np.float32).transpose(0, 2, 3, 4, 1)


def test_public_weights_encode_and_decode_as_the_original(public):
    path, expected = public
    config, params, mean, std = load_wan(path)
    assert mean.shape == std.shape == (config.latent_channels,)
    module = VAE(config)
    found, _ = jax.jit(lambda p, x: module.apply({"params": p}, x, method="encode"))(params, video(expected["shape"]))
    np.testing.assert_allclose(found, expected["mean"], atol=1e-4)
    pixels = jax.jit(lambda p, z: module.apply({"params": p}, z, method="decode"))(params, expected["mean"])
    np.testing.assert_allclose(np.clip(pixels, -1, 1), expected["decoded"], atol=1e-4)
    assert np.abs(expected["mean"]).mean() > 0.1 and np.abs(expected["decoded"]).mean() > 0.1


def test_every_parameter_is_set(public):
    config, params, _, _ = load_wan(public[0])
    t, h, w = config.stride
    key = jax.random.key(0)
    wanted = jax.eval_shape(VAE(config).init, key, jax.ShapeDtypeStruct((1, 1 + t, h, w, 3), np.float32), key)["params"]
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, wanted)


def test_statistics_are_those_beside_the_weights_or_those_published(tmp_path):
    _, _, mean, std = load_wan(GOLDEN / "diffusers_2.1")
    np.testing.assert_allclose(mean, STATISTICS["latents_mean"])
    np.testing.assert_allclose(std, STATISTICS["latents_std"])
    _, _, mean, std = load_wan(GOLDEN / "authors_2.1.safetensors")
    assert mean[0] == np.float32(-0.7571) and std[-1] == np.float32(1.9160)
    with pytest.raises(UserError, match="4 latent channels, and no config.json"):
        load_wan(GOLDEN / "authors_2.2.safetensors")


def test_what_is_missing_left_over_or_something_else_is_named(tmp_path):
    tensors = load_file(GOLDEN / "authors_2.1.safetensors")
    config, _, _, _ = load_wan(GOLDEN / "authors_2.1.safetensors")
    with pytest.raises(UserError, match="'decoder.head.2.bias'"):
        params_from_wan({name: each for name, each in tensors.items() if name != "decoder.head.2.bias"}, config)
    with pytest.raises(UserError, match="1 tensors .*'stray'"):
        params_from_wan({**tensors, "stray": tensors["conv1.bias"]}, config)
    save_file({"weight": tensors["conv1.bias"]}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is no Wan VAE"):
        load_wan(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="'3.0'"):
        wan_config("3.0")


@pytest.mark.parametrize(("version", "stride", "millions"), [("2.1", (4, 8, 8), 126.9), ("2.2", (4, 16, 16), 704.7)])
def test_public_sizes_have_the_published_number_of_parameters(version, stride, millions):
    config = wan_config(version)
    assert config.stride == stride
    t, h, w = stride
    key = jax.random.key(0)
    shapes = jax.eval_shape(VAE(config).init, key, jax.ShapeDtypeStruct((1, 1 + t, h, w, 3), np.float32), key)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.1)

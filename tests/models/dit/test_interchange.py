"""A transformer that left as safetensors comes back bit for bit, under names that others can read; what is wrong is named."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from videodit.core.errors import UserError
from videodit.models.dit.interchange import export_dit, import_dit, parameter_shapes
from videodit.models.dit.model import DiT, DiTConfig
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.refiner import TextRefinerConfig

TEXT = TextEmbedderConfig(ids=2, vocabulary=11, refiner=TextRefinerConfig(depth=1, heads=2))
MODEL = DiT(DiTConfig(width=32, depth=3, heads=2, mlp="swiglu", rope_extent=(4, 8, 8)), 6, TEXT)


@pytest.fixture
def params():
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), parameter_shapes(MODEL))


@pytest.mark.parametrize("shard", [10**9, 20_000])
def test_it_comes_back_bit_for_bit(tmp_path, params, shard):
    export_dit(tmp_path, MODEL, params, shard=shard)
    files = [load_file(path) for path in tmp_path.glob("*.safetensors")]
    assert len(files) == 1 if shard > 10**6 else len(files) > 3
    assert all(len(each) == 1 or sum(array.nbytes for array in each.values()) <= shard for each in files)
    model, found = import_dit(tmp_path)
    assert model == MODEL
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_names_and_shapes_are_those_of_pytorch(tmp_path, params):
    export_dit(tmp_path, MODEL, params)
    arrays = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(arrays["blocks.1.qkv.weight"], params["blocks"]["qkv"]["kernel"][1].reshape(32, 96).T)
    np.testing.assert_array_equal(arrays["blocks.2.modulation_bias"], params["blocks"]["modulation_bias"][2])
    np.testing.assert_array_equal(arrays["text_embed.weight"], params["text_embed"]["embedding"])
    refiner = params["text_embed"]["refiner"]["block0"]
    np.testing.assert_array_equal(arrays["text_embed.refiner.block0.gate.weight"], refiner["gate"]["kernel"].T)
    assert arrays["head.weight"].shape == (6, 32) and arrays["head.bias"].shape == (6,)
    assert not any("kernel" in name or "/" in name for name in arrays)


def test_what_is_wrong_is_named(tmp_path, params):
    with pytest.raises(UserError, match="holds no exported transformer: expected config.json"):
        import_dit(tmp_path)
    export_dit(tmp_path, MODEL, params)
    arrays = load_file(tmp_path / "model.safetensors")

    def saved(changed):
        save_file(changed, tmp_path / "model.safetensors")
        return pytest.raises

    lacking = {name: array for name, array in arrays.items() if name != "blocks.1.up.weight"}
    with saved(lacking)(UserError, match="lacks 'blocks.1.up.weight'"):
        import_dit(tmp_path)
    with saved(arrays | {"extra": arrays["head.bias"]})(UserError, match="1 arrays that its config knows nothing of, 'extra'"):
        import_dit(tmp_path)
    with saved(arrays | {"head.weight": arrays["head.weight"][:, :-1].copy()})(UserError, match="'head.weight' has shape"):
        import_dit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(UserError, match="format 1, expected 2"):
        import_dit(tmp_path)


def test_a_transformer_for_public_encoders_comes_back_too(tmp_path):
    model = DiT(DiTConfig(width=32, depth=2, heads=2), 6, TextEmbedderConfig(widths=(12, 8), refiner=TextRefinerConfig(depth=0)))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, leaf.size, np.float32), parameter_shapes(model))
    export_dit(tmp_path, model, params)
    assert load_file(tmp_path / "model.safetensors")["text_embed.project1.weight"].shape == (32, 8)
    again, found = import_dit(tmp_path)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, found, params)

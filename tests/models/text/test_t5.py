"""Public weights of T5's family give what the original implementations give. The files are small, and made by make_t5_golden.py."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from videodit.core.errors import UserError
from videodit.models.text.t5 import T5Encoder, relative_buckets, t5_config
from videodit.models.text.t5_weights import load_t5, params_from_t5

GOLDEN = pathlib.Path(__file__).with_name("golden")
NAMES = ("t5", "t5_v1_1", "byt5", "umt5")
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}


@pytest.fixture(params=NAMES)
def public(request):
    """(path that a person would give, what the original makes of two texts)."""
    return GOLDEN / request.param, np.load(GOLDEN / f"{request.param}.npz")


def embed(config, params, ids, mask):
    return np.asarray(jax.jit(T5Encoder(config).apply)({"params": params}, ids, mask))


def test_public_weights_embed_text_as_the_original(public):
    path, golden = public
    mask = golden["mask"]
    found = embed(*load_t5(path), golden["ids"], mask)
    assert found.dtype == np.float32 and np.abs(golden["out"][mask]).mean() > 0.1 and not mask.all()
    np.testing.assert_allclose(found[mask], golden["out"][mask], atol=3e-5)


def test_bfloat16_stays_near_and_keeps_norms_and_biases_in_float32(public):
    path, golden = public
    config, params = load_t5(path, "bfloat16")
    found, mask = embed(config, params, golden["ids"], golden["mask"]), golden["mask"]
    assert found.dtype == np.float32
    error = np.abs(found - golden["out"])[mask]
    assert 0 < error.mean() < 0.02 * np.abs(golden["out"][mask]).mean()
    kinds = {jax.tree_util.keystr(at): leaf.dtype for at, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name, dtype in kinds.items():
        assert dtype == (np.float32 if "scale" in name or "relative_bias" in name else jnp.bfloat16), name


def test_padding_changes_nothing(public):
    path, golden = public
    config, params = load_t5(path)
    length = int(golden["mask"][1].sum())
    ids, mask = golden["ids"][1:, :length], golden["mask"][1:, :length]
    alone = embed(config, params, ids, mask)
    junk = np.where(golden["mask"], golden["ids"], 5)
    np.testing.assert_allclose(embed(config, params, junk, golden["mask"])[1:, :length], alone, atol=1e-5)
    assert np.isfinite(embed(config, params, ids, np.zeros_like(mask))).all()


def test_buckets_are_the_originals(public):
    golden = np.load(public[0].with_name(f"{public[0].name}.npz"))["buckets"]
    most = len(golden) // 2
    buckets = relative_buckets(most + 1, 32, 128)
    np.testing.assert_array_equal(buckets[0], golden[most:])
    np.testing.assert_array_equal(buckets[:, 0], golden[most::-1])
    assert (buckets[5:, 5:] == buckets[:-5, :-5]).all() and set(buckets.ravel()) == set(range(32)) - {16}


def test_every_parameter_is_set(public):
    config, params = load_t5(public[0])
    wanted = jax.eval_shape(T5Encoder(config).init, jax.random.key(0), jnp.ones((1, 4), int), jnp.ones((1, 4), bool))["params"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), wanted)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).mean() < 2 for leaf in jax.tree.leaves(params))


def test_a_file_a_directory_and_a_pipeline_are_read_alike(tmp_path):
    config, params = load_t5(GOLDEN / "umt5")
    inside = GOLDEN / "umt5" / "text_encoder"
    assert len(list(inside.glob("*.safetensors"))) > 2
    tensors = {name: each for file in inside.glob("*.safetensors") for name, each in load_file(file).items()}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]  # files hold either or both
    save_file(tensors, tmp_path / "umt5.safetensors")
    shutil.copy(inside / "config.json", tmp_path)
    for other, found in (load_t5(inside), load_t5(tmp_path / "umt5.safetensors")):
        assert other == config
        jax.tree.map(np.testing.assert_array_equal, found, params)


def test_what_is_missing_left_over_or_of_another_shape_is_named():
    tensors = load_file(GOLDEN / "t5_v1_1" / "model.safetensors")
    config, _ = load_t5(GOLDEN / "t5_v1_1")
    name = "encoder.block.2.layer.1.DenseReluDense.wi_1.weight"
    with pytest.raises(UserError, match=f"lacks 1 tensors .*'{name}'"):
        params_from_t5(((each, tensor) for each, tensor in tensors.items() if each != name), config)
    with pytest.raises(UserError, match="1 tensors .*no place for, 'stray'"):
        params_from_t5([*tensors.items(), ("stray", tensors[name])], config)
    with pytest.raises(UserError, match=rf"'{name}' is \(12, 20\), expected \(20, 12\)"):
        params_from_t5([*tensors.items(), (name, tensors[name].T)], config)


def test_a_directory_that_is_no_text_encoder_is_told(tmp_path):
    with pytest.raises(UserError, match="has no config.json in .*text_encoder'"):
        load_t5(tmp_path)
    told = json.loads((GOLDEN / "t5" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"model_type": "bert"}))
    with pytest.raises(UserError, match="model_type 'bert', expected one of t5"):
        load_t5(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="neither model.safetensors nor"):
        load_t5(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((GOLDEN / "t5" / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError, match="no safetensors file, or cut off"):
        load_t5(tmp_path)
    with pytest.raises(UserError, match="'float16', expected 'float32' or 'bfloat16'"):
        load_t5(GOLDEN / "t5", "float16")


def test_a_shard_that_is_not_there_is_named(tmp_path):
    shutil.copytree(GOLDEN / "umt5" / "text_encoder", tmp_path / "encoder")
    gone = sorted((tmp_path / "encoder").glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"lacks '{gone.name}', which its model.safetensors.index.json names"):
        load_t5(tmp_path / "encoder")


@pytest.mark.parametrize("lacking", ["d_model", "num_heads"])
def test_a_config_that_lacks_a_key_is_told(lacking):
    told = {"model_type": "t5", "vocab_size": 32128, **XXL}
    del told[lacking]
    with pytest.raises(UserError, match=f"no key '{lacking}'"):
        t5_config(told)


def test_an_mlp_of_another_kind_is_told():
    with pytest.raises(UserError, match="'gated-tanh', expected"):
        t5_config({"model_type": "t5", "vocab_size": 32128, **XXL, "feed_forward_proj": "gated-tanh"})


@pytest.mark.parametrize(
    ("told", "millions"), [({"model_type": "t5", "vocab_size": 32128}, 4762.3), ({"model_type": "umt5", "vocab_size": 256384}, 5680.9)]
)
def test_public_sizes_have_the_published_number_of_parameters(told, millions):
    module = T5Encoder(t5_config({**XXL, **told}))
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.ones((1, 4), int), jnp.ones((1, 4), bool))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.1)

"""A job gives the step what it reads, and says what a batch is worth."""

import jax
from jax.sharding import AbstractMesh
import numpy as np
import pytest
from safetensors.numpy import save_file

from videodit.core.errors import UserError
from videodit.data.pipeline import VAEStage
from videodit.sharding.mesh import AXES, make_mesh
from videodit.training.encode import encode
from videodit.training.jobs import check_batches, make_job


@pytest.fixture(scope="module")
def job(tiny, tiny_latents):
    return lambda variant: make_job(tiny(variant, data={"path": str(tiny_latents / "dataset")}), tiny_latents)


def test_a_packed_batch_is_worth_its_real_tokens(job):
    made = job("dit")
    batch = next(made.batches)
    assert set(made.device_features) == set(batch) - {"clip", "row", "rows"} and batch["patches"].shape == (4, 48, 6)
    work = made.work(batch)
    assert work["tokens"] == (batch["segment_ids"] > 0).sum() and work["slots"] == 4 * 48 and work["flops"] > 0
    assert made.unit == "tokens"


def test_a_batch_of_clips_is_worth_its_clips_and_its_convolutions(job):
    made = job("vae")
    batch = next(made.batches)
    work = made.work(batch)
    assert set(made.device_features) <= set(batch) and batch["pixels"].dtype == np.uint8
    assert work["tokens"] == work["slots"] == len(batch["pixels"]) and work["flops"] > 0
    twice = made.work({"pixels": np.concatenate([batch["pixels"]] * 2)})
    assert twice["flops"] == pytest.approx(2 * work["flops"], rel=0.05)


def test_lpips_is_in_the_loss_where_its_weights_are_given_and_the_log_says_which(tiny, tiny_dataset, tmp_path):
    widths, random, weights = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512), np.random.default_rng(0), {}
    for layer, before, after in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), widths, widths[1:]):
        weights[f"features.{layer}.weight"] = random.standard_normal((after, before, 3, 3), np.float32) / np.float32(np.sqrt(4.5 * before))
        weights[f"features.{layer}.bias"] = np.zeros(after, np.float32)
    save_file(weights, tmp_path / "vgg16.safetensors")
    heads = {f"lin{n}.model.1.weight": np.ones((1, width, 1, 1), np.float32) for n, width in enumerate((64, 128, 256, 512, 512))}
    save_file(heads, tmp_path / "vgg.safetensors")
    losses, lines = [], []
    paths = {"network": str(tmp_path / "vgg16.safetensors"), "heads": str(tmp_path / "vgg.safetensors")}
    for weight in (0.0, 1.0, 2.0):
        config = tiny(
            "vae", data={"path": str(tiny_dataset / "dataset")}, vae_training={"loss": {"perceptual": paths | {"weight": weight}}}
        )
        made = make_job(config, tmp_path)
        batch = made.to_device(next(made.batches), make_mesh(config.mesh))
        loss, (metrics, _) = jax.jit(made.model.loss)(jax.jit(made.model.init)(jax.random.key(0)), batch, jax.random.key(1))
        losses.append(float(loss))
        lines += made.notes
        assert ("lpips" in metrics) == ("perceptual" in batch) == (weight > 0)
    assert metrics["lpips"] > 0
    np.testing.assert_allclose(np.diff(losses), float(metrics["lpips"]), rtol=1e-4)
    assert lines[0] == "LPIPS is off: its weight is 0" and lines[1] == f"LPIPS is on, by {paths['network']}"


def test_what_comes_before_is_named_where_it_is_missing(tiny, tmp_path):
    with pytest.raises(UserError, match="run `videodit prepare`"):
        make_job(tiny("vae"), tmp_path)
    with pytest.raises(UserError, match="run `videodit encode`"):
        make_job(tiny("dit"), tmp_path)


@pytest.fixture(scope="module")
def smaller(tiny, tiny_latents, tmp_path_factory):
    """The same clips encoded smaller: with the text of the first latents, and with a tokenizer of their own."""
    workdir = tmp_path_factory.mktemp("smaller")
    for name, text in (("shared", {}), ("own", {"tokenizer": "trained"})):
        latents = {"path": str(workdir / name), "vae": str(tiny_latents / "vae"), "policy": {"max_tokens": 3}}
        encode(tiny(data={"path": str(tiny_latents / "dataset")}, text=text, latents=latents), workdir)
    return workdir


def mixed(tiny, tiny_latents, path, **mixture):
    mixture = {"sources": [{"name": "small", "path": str(path), "weight": 1.0}]} | mixture
    return make_job(tiny(data={"path": str(tiny_latents / "dataset")}, mixture=mixture), tiny_latents)


def test_small_sizes_come_first_where_the_curriculum_says_so(tiny, tiny_latents, smaller):
    points = [{"step": 0, "weights": {"latents": 0.0}}, {"step": 8, "weights": {"latents": 1.0, "small": 0.0}}]
    batches = mixed(tiny, tiny_latents, smaller / "shared", curriculum=points).batches
    largest = [int(next(batches)["extent"].prod(axis=-1).max()) for _ in range(12)]
    assert max(largest[:2]) <= 3 and min(largest[10:]) > 3


def test_sources_that_do_not_go_together_are_named(tiny, tiny_latents, smaller):
    with pytest.raises(UserError, match="source 'small', .* was encoded with another text than .*latents.tokenizer="):
        mixed(tiny, tiny_latents, smaller / "own")


def test_two_trained_tokenizers_do_not_go_together(tiny, tiny_latents, smaller, tmp_path):
    """Of the same config, but other captions."""
    data, text = {"path": str(tiny_latents / "dataset")}, {"tokenizer": "trained", "vocabulary": 300}
    latents = {"path": str(tmp_path / "latents"), "vae": str(tiny_latents / "vae"), "policy": {"max_tokens": 3}}
    encode(tiny(data=data, text=text, latents=latents), tmp_path)
    sources = {"sources": [{"name": "small", "path": str(smaller / "own"), "weight": 1.0}]}
    with pytest.raises(UserError, match="source 'small', .* was encoded with another text than"):
        make_job(tiny(data=data, text=text, latents=latents, mixture=sources), tmp_path)


def test_the_log_says_how_many_captions_are_cut(tiny, tiny_latents):
    made = make_job(tiny(data={"path": str(tiny_latents / "dataset")}, packing={"max_text_tokens": 3}), tiny_latents)
    (note,) = made.notes
    assert "captions of 'latents' are longer than 3 tokens, and cut" in note
    slots = next(made.batches)["text_0"].shape[1]
    assert slots % 8 == 0 and slots <= 24


def test_frames_are_split_only_where_clips_fill_the_mesh():
    mesh = AbstractMesh((2, 2, 1, 2), AXES)
    check_batches([VAEStage(batch=4), VAEStage(batch=8)], mesh)
    with pytest.raises(UserError, match="batch is 2, expected a multiple of mesh data x fsdp, 4"):
        check_batches([VAEStage(batch=4), VAEStage(batch=2)], mesh)
    check_batches([VAEStage(batch=3)], AbstractMesh((2, 2, 1, 1), AXES))

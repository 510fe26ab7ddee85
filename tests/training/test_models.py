"""What the two models ask of a batch: which tokens are noised, which are counted, and what a step owes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.known import EVERY_TASK, TASKS, KnownConfig
from videodit.diffusion.process import ProcessConfig
from videodit.models.dit.model import DiTConfig, forward_flops
from videodit.models.text.embedder import TextEmbedderConfig
from videodit.models.text.embedder import forward_flops as text_flops
from videodit.models.vae.config import Stage, VAEConfig
from videodit.models.vae.losses import VAELossConfig
from videodit.training.models import DiTModel, VAEModel, to_float_pixels

CHANNELS = 3
TEXT = TextEmbedderConfig(vocabulary=9)


@pytest.fixture(scope="module")
def batch():
    """A row of a video, an image and a video, and a row of one video, with words before each."""
    random = np.random.default_rng(0)
    words = lambda: [random.integers(1, 9, (2, 1), np.int32)]
    sample = lambda *size: tokens_of(random.normal(size=(*size, CHANNELS)).astype(np.float32), words(), (1, 1, 1))
    return {
        name: jnp.asarray(value)
        for name, value in concatenate_rows([[sample(3, 2, 2), sample(1, 2, 3), sample(2, 2, 2)], [sample(2, 3, 2)]], 40).items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spied(DiTModel):
    """A transformer that predicts zero and notes what it was given."""

    given: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def module(self):
        model = self

        class Module:
            def apply(self, params, noised, level, row):
                model.given.update(noised=noised, level=level)
                return jnp.zeros_like(noised)

        return Module()


def spied(batch, key=0, **process):
    model = Spied(config=DiTConfig(width=16, heads=2), process=ProcessConfig(**process), latent_channels=CHANNELS, text=TEXT)
    loss, _ = model.loss({}, batch, jax.random.key(key))
    return loss, np.asarray(model.given["level"]), np.asarray(model.given["noised"])


def test_a_clip_has_one_noise_level_and_every_clip_its_own(batch):
    _, level, _ = spied(batch)
    patches, ids = np.asarray(batch["modality"] == 2), np.asarray(batch["segment_ids"])
    assert (level[~patches] == 0).all()
    levels = [
        set(level[row][(ids[row] == segment) & patches[row]].tolist()) for row in range(2) for segment in range(1, ids[row].max() + 1)
    ]
    assert all(len(each) == 1 and 0 < max(each) < 1 for each in levels) and len(set.union(*levels)) == len(levels) == 4


def test_text_and_padding_are_given_as_they_are(batch):
    _, _, noised = spied(batch)
    other = np.asarray(batch["modality"] != 2)
    np.testing.assert_array_equal(noised[other], np.asarray(batch["patches"])[other])


def test_noise_comes_anew_with_every_key_and_the_same_with_the_same(batch):
    losses = [float(spied(batch, key)[0]) for key in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_a_given_first_frame_is_clean_and_not_counted_and_an_image_is_never_given(batch):
    _, level, noised = spied(batch, known=KnownConfig(first=1.0))
    patches, first = np.asarray(batch["modality"] == 2), np.asarray(batch["positions"][..., 0] == 0)
    video = np.asarray(batch["extent"][..., 0] > 1)
    assert (level[patches & first & video] == 0).all() and (level[patches & ~first] > 0).all() and (level[patches & ~video] > 0).all()
    np.testing.assert_array_equal(noised[patches & first & video], np.asarray(batch["patches"])[patches & first & video])


def test_the_loss_is_the_mean_squared_velocity_error_of_the_noised_patches(batch):
    for odds in (0.0, 1.0):
        loss, level, noised = spied(batch, known=KnownConfig(first=odds))
        counted, t = level > 0, level[..., None]
        noise = (noised - (1 - t) * np.asarray(batch["patches"])) / np.where(t > 0, t, 1)
        wanted = np.square(noise - np.asarray(batch["patches"])).mean(axis=-1)[counted].mean()
        np.testing.assert_allclose(loss, wanted, rtol=1e-3)


def test_the_loss_is_that_of_what_is_drawn_and_adds_up_over_rows(batch):
    model = DiTModel(config=DiTConfig(width=16, heads=2), process=ProcessConfig(), latent_channels=CHANNELS, text=TEXT)
    params = jax.tree.map(lambda leaf: leaf + 0.1, jax.jit(model.init)(jax.random.key(0)))
    drawn, loss_sum = model.draw(batch, jax.random.key(1)), jax.jit(model.loss_sum)
    rows = [loss_sum(params, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], drawn)) for row in range(2)]
    total, weight = sum(float(each) for each, _ in rows), sum(float(sums["weight"]) for _, sums in rows)
    np.testing.assert_allclose(jax.jit(model.loss)(params, batch, jax.random.key(1))[0], total / weight, rtol=1e-5)


def test_what_is_given_has_a_little_noise_where_the_config_says_so(batch):
    _, level, _ = spied(batch, known=KnownConfig(first=1.0, noise=0.1))
    patches, video = np.asarray(batch["modality"] == 2), np.asarray(batch["extent"][..., 0] > 1)
    given = patches & video & np.asarray(batch["positions"][..., 0] == 0)
    assert (level[given] > 0).all() and (level[given] < 0.1).all() and len(set(level[given].tolist())) == 3
    assert (level[~patches] == 0).all()


def test_the_loss_by_task_adds_up_to_the_loss(batch):
    process = ProcessConfig(known=EVERY_TASK)
    model = DiTModel(config=DiTConfig(width=16, heads=2), process=process, latent_channels=CHANNELS, text=TEXT)
    params, loss_sum, mean_loss = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.loss_sum), jax.jit(model.loss)
    for key in range(3):
        total, sums = loss_sum(params, model.draw(batch, jax.random.key(key)))
        assert set(sums["of"]) == set(TASKS)
        np.testing.assert_allclose(sum(float(each) for each, _ in sums["of"].values()), total, rtol=1e-5)
        assert sum(float(each) for _, each in sums["of"].values()) == float(sums["weight"])
        loss, (metrics, _) = mean_loss(params, batch, jax.random.key(key))
        there = {name for name, (_, weight) in sums["of"].items() if weight > 0}
        assert {name for name, value in metrics.items() if np.isfinite(value)} == {f"loss/{name}" for name in there} and np.isfinite(loss)


def test_a_batch_of_padding_alone_has_no_loss(batch):
    empty = jax.tree.map(jnp.zeros_like, dict(batch))
    assert spied(empty)[0] == 0


def test_work_counts_real_tokens_and_pairs_inside_clips(batch):
    model = DiTModel(config=DiTConfig(width=16, heads=2), process=ProcessConfig(), latent_channels=CHANNELS, text=TEXT)
    work = model.work({name: np.asarray(value) for name, value in batch.items()})
    patches = [12, 6, 8, 12]
    assert (work["tokens"], work["slots"]) == (sum(patches) + 8, 80)
    in_rows = forward_flops(model.config, CHANNELS, 8, sum(patches), sum((each + 2) ** 2 for each in patches))
    before = text_flops(TEXT, 16, [8], 4 * 2**2)
    assert before > 0 and work["flops"] == 3 * (in_rows + before)


def test_pixels_span_minus_one_to_one():
    np.testing.assert_allclose(to_float_pixels(jnp.array([0, 255], jnp.uint8)), [-1.0, 1.0])


def test_the_statistics_of_the_vae_are_the_moments_of_its_means():
    config = VAEConfig(latent_channels=4, fold=(1, 4, 4), stages=(Stage(width=4),))
    model = VAEModel(config=config, loss_config=VAELossConfig())
    params = jax.jit(model.init)(jax.random.key(0))
    batch = {"pixels": np.random.default_rng(0).integers(0, 256, (2, 2, 8, 8, 3), np.uint8)}
    loss, (metrics, statistics) = model.loss(params, batch, jax.random.key(1))
    mean, _ = model.module.apply({"params": params}, to_float_pixels(jnp.asarray(batch["pixels"])), method="encode")
    np.testing.assert_allclose(statistics["mean"], mean.mean((0, 1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(statistics["square"], jnp.square(mean).mean((0, 1, 2, 3)), atol=1e-6)
    assert jax.tree.structure(statistics) == jax.tree.structure(model.statistics()) and np.isfinite(loss)
    assert metrics.keys() >= {"psnr_db", "kl"}

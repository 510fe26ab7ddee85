"""A clip depends on its own prompt, size and seed: not on what is made beside it, nor on how it was packed."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.guidance import guide
from videodit.diffusion.solvers import noise_schedule
from videodit.generation.generate import Request, _without_text, first_fit
from videodit.generation.sample import load_generator

# Prompts of different lengths; sizes that were trained on and sizes that were not, on the grid of 8 pixels and 4 frames and off it.
REQUESTS = [
    Request(prompt="a red ball rolls left", frames=9, height=16, width=24, seed=1),
    Request(prompt="", frames=1, height=16, width=16, seed=2),
    Request(prompt="a blue cube slides right", frames=6, height=21, width=18, seed=3),
    Request(prompt="a green cone stays still, and more words than fit", frames=5, height=8, width=40, seed=4),
]


@pytest.fixture(scope="module")
def config(tiny, tiny_job):
    return tiny(data={"path": str(tiny_job / "dataset")}, sample={"steps": 2, "guidance": 2.0})


@pytest.fixture(scope="module")
def generator(config, tiny_job):
    return load_generator(config, tiny_job)


@pytest.fixture(scope="module")
def clips(generator, config):
    return generator(REQUESTS, config.sample)


def far(a, b):
    """The largest difference of two clips, in steps of 1/255."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_every_clip_has_the_size_that_was_asked_for(clips):
    assert [clip.shape for clip in clips] == [(r.frames, r.height, r.width, 3) for r in REQUESTS]
    assert all(clip.dtype == np.uint8 for clip in clips)


def test_the_same_seed_gives_the_same_clip_and_another_seed_another(generator, config, clips):
    again = generator(REQUESTS, config.sample)
    assert all((a == b).all() for a, b in zip(again, clips))
    other = generator([dataclasses.replace(REQUESTS[0], seed=99), *REQUESTS[1:]], config.sample)
    assert far(other[0], clips[0]) > 5 and (other[1] == clips[1]).all()


def test_clips_made_together_equal_clips_made_one_at_a_time(generator, config, clips):
    for request, clip in zip(REQUESTS, clips):
        (alone,) = generator([request], config.sample)
        assert far(alone, clip) <= 1  # rounding to 8 bits


def test_the_order_of_requests_does_not_matter(generator, config, clips):
    for clip, other in zip(clips, generator(REQUESTS[::-1], config.sample)[::-1]):
        assert far(clip, other) <= 1


def test_more_requests_than_rows_hold_are_made_in_turn(generator, config, clips):
    small = dataclasses.replace(generator, rows=1)
    for clip, other in zip(clips, small(REQUESTS, config.sample)):
        assert far(clip, other) <= 1


def test_a_clip_longer_than_any_row_of_training_is_made(generator, config):
    request = Request(prompt="a red ball", frames=33, height=24, width=24)
    assert generator([request], config.sample)[0].shape == (33, 24, 24, 3)


def test_a_size_off_the_grid_is_cut_from_the_next_larger_one(generator, config):
    size, larger = (
        Request(prompt="a red ball", frames=3, height=13, width=20, seed=5),
        Request(prompt="a red ball", frames=5, height=16, width=24, seed=5),
    )
    small, large = generator([size, larger], config.sample)
    assert generator.latent_shape(size) == generator.latent_shape(larger)
    assert far(small, large[:3, 1:14, 2:22]) <= 1


def rows_of(generator, prompt, noise):
    sample = tokens_of(noise, generator.tokenizer.encode(prompt, 12), (1, 1, 1))
    return {name: jnp.asarray(value) for name, value in concatenate_rows([[sample]], 40).items() if name != "clip"}


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(3, 2, 3, 6)).astype(np.float32)


def predicted(generator, row, patches, level):
    is_patch = row["modality"] == 2
    out = generator.model.module.apply({"params": generator.params}, patches, jnp.where(is_patch, level, 0.0), row)
    return out[is_patch]


def test_rows_without_text_are_rows_of_the_empty_caption(generator, noise):
    with_words, empty = rows_of(generator, "a red ball rolls left", noise), rows_of(generator, "", noise)
    without = _without_text(with_words)
    assert (without["segment_ids"] > 0).sum() == (empty["segment_ids"] > 0).sum()
    found = predicted(generator, without, without["patches"], 0.7)
    np.testing.assert_allclose(found, predicted(generator, empty, empty["patches"], 0.7), atol=1e-5)
    assert np.abs(found - predicted(generator, with_words, with_words["patches"], 0.7)).max() > 1e-5


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_leads_from_the_empty_caption_to_the_prompt(generator, config, scale):
    request = REQUESTS[0]
    start = generator._sample(0, request)["patches"][-18:].reshape(3, 2, 3, 6)
    rows = [rows_of(generator, prompt, start) for prompt in (request.prompt, "")]

    def velocity(x, t):
        level = jnp.full(rows[0]["segment_ids"].shape, t)
        both = []
        for row in rows:
            patches = jnp.zeros_like(row["patches"]).at[row["modality"] == 2].set(x)
            both.append(predicted(generator, row, patches, level))
        return guide(*both, scale) if scale != 1 else both[0]

    is_patch = rows[0]["modality"] == 2
    levels, x = noise_schedule(2, 1.0), rows[0]["patches"][is_patch]
    slope = velocity(x, levels[0])  # Heun by hand: one corrected step and one of Euler's
    x = x + (levels[1] - levels[0]) * 0.5 * (slope + velocity(x + (levels[1] - levels[0]) * slope, levels[1]))
    x = x + (levels[2] - levels[1]) * velocity(x, levels[1])
    by_hand = generator.vae.decode(np.asarray(x).reshape(1, 3, 2, 3, 6))[0]
    (clip,) = generator([request], dataclasses.replace(config.sample, guidance=scale))
    assert far(clip, by_hand) <= 1


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"height": 0}, {"width": -8}])
def test_a_clip_of_nothing_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"{name} is"):
        Request(**({"prompt": "", "frames": 1, "height": 8, "width": 8} | wrong))


def test_first_fit_keeps_every_sample_in_a_row_that_holds_it():
    random = np.random.default_rng(0)
    samples = [{"text_ids": np.zeros(n)} for n in random.integers(1, 30, 40)]
    rows = first_fit(samples, 32)
    assert sorted(id(sample) for row in rows for sample in row) == sorted(map(id, samples))
    filled = [sum(len(sample["text_ids"]) for sample in row) for row in rows]
    assert max(filled) <= 32 and len(rows) <= 1.3 * sum(filled) / 32

"""A clip depends on its own prompt, size and seed: not on what is made beside it, nor on how it was packed."""

import dataclasses
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.packing import concatenate_rows, tokens_of
from videodit.diffusion.guidance import GuidanceConfig
from videodit.diffusion.shift import ShiftConfig
from videodit.diffusion.solvers import noise_schedule
from videodit.generation.canvas import Canvas, of_clip, of_pieces
from videodit.generation.generator import Request, first_fit, solve
from videodit.generation.noise import start_noise
from videodit.generation.sample import load_generator

HERE = pathlib.Path(__file__).parent
# Prompts of different lengths; sizes that were trained on and sizes that were not, on the grid of 8 pixels and 4 frames and off it.
REQUESTS = [
    Request(prompt="a red ball rolls left", frames=9, height=16, width=24, seed=1),
    Request(prompt="", frames=1, height=16, width=16, seed=2),
    Request(prompt="a blue cube slides right", frames=6, height=21, width=18, seed=3, negative="a red ball"),
    Request(prompt="a green cone stays still, and more words than fit", frames=5, height=8, width=40, seed=4),
]


@pytest.fixture(scope="module")
def config(tiny, tiny_job):
    return tiny(data={"path": str(tiny_job / "dataset")}, sample={"steps": 2})


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
    sample = tokens_of(noise, generator.text.encode([prompt])[0], (1, 1, 1))
    return {name: jnp.asarray(value) for name, value in concatenate_rows([[sample]], 40).items() if name != "clip"}


def predicted(generator, row, patches, level):
    is_patch = row["modality"] == 2
    out = generator.model.module.apply({"params": generator.params}, patches, jnp.where(is_patch, level, 0.0), row)
    return out[is_patch]


# Solvers that draw noise, statistics of a clip and a shift by its size: all of it is a clip's own.
EVERYTHING = {
    "solver": "sde-dpm++",
    "guidance": GuidanceConfig(scale=4.0, interval=(0.1, 0.9), rescale=0.5, parallel=0.1, limit=0.5, momentum=-0.5),
    "shift": ShiftConfig(low_tokens=4, high_tokens=40),
}


@pytest.mark.parametrize("solver", ["euler", "heun", "dpm++", "unipc", "sde-dpm++"])
def test_with_every_solver_clips_made_together_equal_clips_made_one_at_a_time(generator, config, solver):
    settings = dataclasses.replace(config.sample, **EVERYTHING | {"solver": solver})
    for request, clip in zip(REQUESTS[:3:2], generator(REQUESTS, settings)[:3:2]):
        (alone,) = generator([request], settings)
        assert far(alone, clip) <= 1


def test_a_stochastic_solver_gives_the_same_clip_with_the_same_seed(generator, config, clips):
    settings = dataclasses.replace(config.sample, solver="sde-dpm++")
    first, second = generator(REQUESTS, settings), generator(REQUESTS, settings)
    assert all((a == b).all() for a, b in zip(first, second)) and far(first[0], clips[0]) > 1


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("negative", ["", "a green cone stays still"])
def test_guidance_leads_from_the_negative_prompt_to_the_prompt(generator, config, scale, negative):
    request = dataclasses.replace(REQUESTS[0], negative=negative)
    start = start_noise(request.seed, generator.latent_shape(request))
    rows = [rows_of(generator, prompt, start) for prompt in (request.prompt, request.negative)]

    def velocity(x, t):
        level = jnp.full(rows[0]["segment_ids"].shape, t)
        both = []
        for row in rows:
            patches = jnp.zeros_like(row["patches"]).at[row["modality"] == 2].set(x)
            both.append(predicted(generator, row, patches, level))
        return both[1] + scale * (both[0] - both[1])

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


def test_first_fit_keeps_the_copies_of_every_clip_in_one_row_that_holds_them():
    random = np.random.default_rng(0)
    units = [[{"modality": np.zeros(n)}, {"modality": np.zeros(1)}] for n in random.integers(1, 30, 40)]
    rows = first_fit(units, 32)
    assert sorted(id(unit) for row in rows for unit in row) == sorted(map(id, units))
    filled = [sum(len(sample["modality"]) for unit in row for sample in unit) for row in rows]
    assert max(filled) <= 32 and len(rows) <= 1.3 * sum(filled) / 32


# -- what is given


@pytest.fixture(scope="module")
def clip():
    """A clip of smooth noise, 9 frames of 16x24."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 4, 6, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def with_canvas(canvas, **changes):
    frames, height, width = canvas.given.shape
    return Request(prompt="a red ball", frames=frames, height=height, width=width, seed=1, canvas=canvas, **changes)


def test_what_is_given_comes_out_as_the_vae_decodes_it_and_the_rest_is_made(generator, config, clip):
    canvas = of_pieces(9, (16, 24), [(0, clip[:5])])
    (made,) = generator([with_canvas(canvas)], config.sample)
    (free,) = generator([dataclasses.replace(with_canvas(canvas), canvas=None)], config.sample)
    kept = generator.vae.decode(generator.vae.encode(canvas.frames[None]))[0]
    assert far(made[:5], kept[:5]) <= 1 and far(made[5:], kept[5:]) > 5 and far(made[5:], free[5:]) > 1
    assert far(free[:5], kept[:5]) > 5


@pytest.mark.parametrize("solver", ["euler", "heun", "dpm++", "unipc", "sde-dpm++"])
def test_known_patches_stay_as_they_are_to_the_bit_whatever_the_solver(generator, config, clip, solver):
    canvas = of_pieces(9, (16, 24), [(5, clip[5:])])
    solved, seen = [], generator._solve

    def spy(settings, batch, levels):
        solved.append((batch, levels, seen(settings, batch, levels)))
        return solved[-1][2]

    spied = dataclasses.replace(generator)
    object.__setattr__(spied, "_solve", spy)
    spied([with_canvas(canvas)], dataclasses.replace(config.sample, **EVERYTHING | {"solver": solver}))
    ((batch, levels, out),) = solved
    known = (batch["modality"] == 2) & (levels[0] == 0)
    assert known.sum() == 2 * 6 and (out[known] == batch["patches"][known]).all()  # one latent frame of 2 x 3, after both prompts
    assert (levels[0][batch["modality"] == 1] == 0).all()


def test_what_was_generated_before_starts_from_a_little_noise_and_what_was_given_from_none(generator, config, clip):
    history = np.zeros((9, 16, 24), bool)
    history[1:5] = True
    canvas = dataclasses.replace(of_pieces(9, (16, 24), [(0, clip[:5])]), history=history)
    levels = lambda request, noise: generator._start(request, noise).level.reshape(3, 2, 3)
    assert levels(with_canvas(canvas), 0.1).max(axis=(1, 2)).tolist() == pytest.approx([0, 0.1, 1])
    assert levels(with_canvas(canvas), 0.1).min(axis=(1, 2)).tolist() == pytest.approx([0, 0.1, 1])
    (made,) = generator([with_canvas(canvas)], dataclasses.replace(config.sample, history_noise=0.2))
    kept = generator.vae.decode(generator.vae.encode(canvas.frames[None]))[0]
    assert far(made[:1], kept[:1]) <= 1 < far(made[1:5], kept[1:5])


def test_the_noise_of_what_was_generated_is_the_most_that_training_had_unless_it_is_said(generator, config):
    assert generator._history_noise(config.sample) == generator.model.process.known.noise > 0
    assert generator._history_noise(dataclasses.replace(config.sample, history_noise=0.05)) == 0.05
    with pytest.raises(UserError, match="sample.history_noise is 1, expected 0"):
        dataclasses.replace(config.sample, history_noise=1.0)


def test_a_given_pixel_beside_others_in_a_patch_comes_out_as_it_went_in(generator, config, clip):
    hole = np.zeros((1, 16, 24), bool)
    hole[:, 3:10, 5:9] = True
    (made,) = generator([with_canvas(of_clip(clip, hole))], config.sample)
    mixed = np.zeros((16, 24), bool)
    mixed[0:16, 0:16] = True  # the patches of 8x8 that the hole meets
    outside = mixed & ~hole[0]
    assert (made[:, outside] == clip[:, outside]).all() and (made[:, hole[0]] != clip[:, hole[0]]).any()


def test_an_edit_leaves_more_of_the_clip_the_weaker_it_is(generator, config, clip):
    canvas = of_clip(clip, np.ones(1, bool)[:, None, None])
    kept = generator.vae.decode(generator.vae.encode(clip[None]))[0].astype(float)
    settings = dataclasses.replace(config.sample, guidance=dataclasses.replace(config.sample.guidance, scale=1.0), steps=4)
    off = [np.abs(generator([with_canvas(canvas, strength=s)], settings)[0] - kept).mean() for s in (0.01, 0.3, 0.6, 0.9)]
    assert off == sorted(off) and off[0] < 4


def test_an_edit_of_full_strength_knows_nothing_of_the_clip(generator, config, clip):
    canvas = of_clip(clip, np.ones(1, bool)[:, None, None])
    (made,) = generator([with_canvas(canvas)], config.sample)
    (free,) = generator([dataclasses.replace(with_canvas(canvas), canvas=None)], config.sample)
    assert far(made, free) <= 1


def test_clips_with_and_without_canvases_share_rows(generator, config, clip):
    mixed = [with_canvas(of_pieces(9, (16, 24), [(0, clip[:1])])), REQUESTS[0], with_canvas(of_clip(clip, clip[..., 0] > 0), strength=0.5)]
    for request, made in zip(mixed, generator(mixed, config.sample)):
        assert far(generator([request], config.sample)[0], made) <= 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strength": 0.0}, "strength is 0, expected more than 0"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": 0.5}, "no clip to start from"),
        ({"canvas": of_pieces(5, (8, 8), [])}, "a canvas has 5 frames of 8x8, but 1 of 8x8 are asked for"),
    ],
)
def test_a_request_that_cannot_be_is_named(wrong, said):
    with pytest.raises(UserError, match=said):
        Request(**({"prompt": "", "frames": 1, "height": 8, "width": 8} | wrong))


def test_a_clip_of_which_all_is_given_is_named(generator, config, clip):
    with pytest.raises(UserError, match="everything of a clip is given"):
        generator([with_canvas(Canvas(frames=clip, given=np.ones(clip.shape[:3], bool)))], config.sample)


def test_prompts_of_sizes_that_fit_one_row_compile_the_sampler_once(generator, config):
    solve.clear_cache()
    sizes = [(1, 16, 16), (1, 24, 16), (5, 8, 16), (9, 8, 8), (1, 13, 20)]
    prompts = ["", "a ball", "a green cone stays still, and more words than fit"]
    for number, (frames, height, width) in enumerate(sizes):
        generator([Request(prompt=prompts[number % 3], frames=frames, height=height, width=width)], config.sample)
    assert solve._cache_size() == 1


@pytest.mark.slow
def test_a_mesh_gives_the_same_clips(tiny_job):
    done = subprocess.run([sys.executable, str(HERE / "sample_on_meshes.py"), str(tiny_job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

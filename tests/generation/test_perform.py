"""Tasks of every kind, made by one model: of the right size and length, the given kept, the same however they are packed."""

import dataclasses

import numpy as np
import pytest

from videodit.data import media
from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.evaluation.quality import psnr_db
from videodit.generation import Task, generate, load
from videodit.generation.perform import perform, trained_of, windows_of

SIZE = (16, 24)


@pytest.fixture(scope="module")
def generator(tiny_job):
    found = load(tiny_job)
    return dataclasses.replace(found, settings=dataclasses.replace(found.settings, steps=2))


@pytest.fixture(scope="module")
def clip():
    source = WorldsSource(WorldsConfig(seed=5, count=1, sizes=(SIZE,), frames=(17,), camera_odds=0.0))
    return source[0]["frames"]


@pytest.fixture(scope="module")
def tasks(clip):
    video, still = media.encode_video(clip, 8, lossless=True), media.encode_image(clip[0])
    short = media.encode_video(clip[:6], 8, lossless=True)
    return [
        Task(prompt="a red ball", size=SIZE, seconds=2.5, seed=1),
        Task(task="image", inputs=(still,), size=SIZE, seconds=1.0, seed=2),
        Task(task="extend", inputs=(short,), size=SIZE, seconds=1.0, seed=3),
        Task(task="extend", direction="backward", inputs=(short,), size=SIZE, seconds=1.0, seed=4),
        Task(task="fill", inputs=(video,), missing=((0.75, 1.25),), size=SIZE, seed=5),
        Task(task="fill", inputs=(short,), region=(0.0, 0.0, 0.5, 0.5), size=SIZE, seed=6),
        Task(task="loop", inputs=(short,), size=SIZE, seed=7),
        Task(task="loop", prompt="a blue cube", size=SIZE, seconds=1.25, seed=8),
        Task(task="connect", inputs=(short, video), seconds=0.5, size=SIZE, seed=9),
        Task(task="blend", inputs=(video, video), size=SIZE, seed=10),
        Task(task="edit", prompt="a green cone", inputs=(video,), size=SIZE, seed=11, strength=0.5),
        Task(task="vary", inputs=(still,), size=SIZE, seed=12),
        Task(prompt="a still", size=(24, 16), seconds=0, seed=13),
    ]


@pytest.fixture(scope="module")
def clips(generator, tasks):
    return generate(generator, *tasks)


def test_each_has_the_length_that_its_task_says(clips):
    assert [len(clip) for clip in clips] == [20, 8, 14, 14, 17, 6, 10, 10, 27, 17, 17, 1, 1]
    assert all(clip.shape[1:] == (*SIZE, 3) and clip.dtype == np.uint8 for clip in clips[:-1]) and clips[-1].shape[1:] == (24, 16, 3)


def test_what_is_given_is_kept_within_the_error_of_the_vae(generator, clip, clips):
    error = psnr_db(generator.vae.decode(generator.vae.encode(clip[None]))[0], clip)
    still, longer, earlier, filled, joined = clips[1], clips[2], clips[3], clips[4], clips[8]
    kept = [(still[:1], clip[:1]), (longer[:6], clip[:6]), (earlier[8:], clip[:6]), (joined[:6], clip[:6]), (joined[10:], clip)]
    for made, given in [*kept, (filled[:6], clip[:6]), (filled[10:], clip[10:])]:
        assert psnr_db(made, given) > error - 1


def test_outside_a_region_and_outside_windows_nothing_changes(clip, clips):
    np.testing.assert_array_equal(clips[5][:, :, 20:], clip[:6, :, 20:])  # further than a latent from the region
    assert (clips[8][18:] == clip[8:]).all() and not (clips[8][9:12] == clip[0]).all()


def test_what_is_packed_with_others_is_as_if_made_alone(generator, tasks, clips):
    for number in (0, 3, 7, 8):
        (alone,) = generate(generator, tasks[number])
        assert np.abs(alone.astype(int) - clips[number]).max() <= 2  # rounding to 8 bits, also of what a window is given


def test_windows_are_counted_before_they_are_made_and_told_one_by_one(generator, tasks):
    trained, few = trained_of(generator, generator.settings), [tasks[0], tasks[7], tasks[11]]
    told = list(perform(generator, few, generator.settings))
    made = [each.number for each in told if each.window is not None]
    assert [made.count(n) for n in range(3)] == [windows_of(task, trained) for task in few] == [4, 2, 1]
    assert sorted(each.number for each in told if each.whole) == [0, 1, 2]
    assert all(each.plan is not None and each.parts is not None for each in told if each.whole)


def test_while_that_is_made_of_which_a_loop_is_there_is_no_plan_of_the_loop(generator):
    loop = Task(task="loop", prompt="x", seconds=3)
    windows = windows_of(loop, trained_of(generator, generator.settings))
    told = [each.plan is None for each in perform(generator, [loop], generator.settings)]
    assert windows > 2 and told == [True] * (windows - 2) + [False] * 2  # after the last window of the one, the other begins

"""Each task gives what it should of its inputs, in windows on the grid of latents; what cannot be done is said in one line."""

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import media
from videodit.generation.plans import Trained, before, cross_fade, plan
from videodit.generation.tasks import Task
from videodit.generation.windows import Whole

TIME, WINDOW, OVERLAP, FPS = 4, 17, 9, 8.0
SIZE = (8, 12)
TRAINED = Trained(time=TIME, window=WINDOW, overlap=OVERLAP, fps=FPS, size=SIZE, size_of=lambda source: SIZE)


def video(frames, first=0):
    """Frame n is `first` + n grey."""
    return media.encode_video(np.broadcast_to(pixels(frames, first), (frames, *SIZE, 3)).copy(), FPS, lossless=True)


def pixels(frames, first=0):
    return (first + np.arange(frames, dtype=np.uint8))[:, None, None, None]


def still(value):
    return media.encode_image(np.full((*SIZE, 3), value, np.uint8))


def whole(of, start, stop):
    """What is given of each frame as a whole, and the frames' values."""
    canvas = of.source(start, stop)
    return canvas.given.all(axis=(1, 2)), canvas.frames[:, 0, 0, 0].astype(int)


def on_grid(of):
    """In each window what is given and not made before is whole latents."""
    made: set[int] = set()
    for window in of.windows:
        given = whole(of, window.start, window.stop)[0] | np.isin(list(window), list(made))
        for first in range(1, len(window), TIME):
            group = given[first : first + TIME]
            assert group.all() or not group.any(), (window, first)
        made |= set(window)
    return made


def test_text_is_windows_of_nothing():
    of = plan(Task(prompt="x", seconds=5), TRAINED)
    assert of.frames == 40 and set().union(*of.windows) == set(range(40)) and not whole(of, 0, 40)[0].any()
    assert plan(Task(prompt="x", seconds=0), TRAINED).frames == 1 and plan(Task(prompt="x"), TRAINED).frames == WINDOW


def test_an_image_lies_where_it_is_put_for_as_long_as_its_latent():
    of = plan(Task(task="image", inputs=(still(10), still(20), still(30)), at=(0, 0.75, "end"), seconds=17 / 8), TRAINED)
    given, values = whole(of, 0, 17)
    assert np.flatnonzero(given).tolist() == [0, 5, 6, 7, 8, 13, 14, 15, 16]
    assert values[given].tolist() == [10] + [20] * 4 + [30] * 4
    assert whole(plan(Task(task="image", inputs=(still(10), still(20))), TRAINED), 0, WINDOW)[0][[0, -1]].all()


@pytest.mark.parametrize("seconds", [0.5, 1.0, 6.0])
@pytest.mark.parametrize("frames", [1, 2, 8, 9, 20, 50])
def test_a_video_goes_on(frames, seconds):
    of = plan(Task(task="extend", inputs=(video(frames),), seconds=seconds), TRAINED)
    new = round(seconds * FPS)
    given, values = whole(of, 0, of.frames)
    assert of.frames == frames + new and given.tolist() == [True] * frames + [False] * new
    assert values[:frames].tolist() == list(range(frames))
    made = on_grid(of)
    assert set(range(frames, frames + new)) <= made and of.windows[0].start == frames - min(OVERLAP, 1 + (frames - 1) // TIME * TIME)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 6.0])
@pytest.mark.parametrize("frames", [1, 3, 9, 20])
def test_a_video_begins_earlier(frames, seconds):
    of = plan(Task(task="extend", direction="backward", inputs=(video(frames),), seconds=seconds), TRAINED)
    new = round(seconds * FPS)
    (shown,) = of.shown
    assert shown == range(-new, frames) and set(range(-new, 0)) <= on_grid(of)
    given, values = whole(of, -new, frames)
    assert given.tolist() == [False] * new + [True] * frames and values[new:].tolist() == list(range(frames))


@pytest.mark.parametrize("start", range(0, 20, 3))
@pytest.mark.parametrize("length", [1, 4, 7, 8])
def test_what_is_missing_is_made_between_what_is_there(start, length):
    frames = 28
    of = plan(Task(task="fill", inputs=(video(frames),), missing=((start / FPS, (start + length) / FPS),)), TRAINED)
    (window,) = of.windows
    given = whole(of, 0, frames)[0]
    assert np.flatnonzero(~given).tolist() == list(range(start, start + length)) and set(range(start, start + length)) <= set(window)
    assert len(window) <= WINDOW and (len(window) - 1) % TIME == 0
    assert window.start < start or start == 0
    assert window.stop >= start + length + TIME - 1
    at = window.start
    assert (start - at) % TIME == 1 or start == 0  # it begins with a latent, so that none before it is lost


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (1, 16), (1, 31), (5, 18), (8, 32), (20, 49), (20, 50)])
def test_of_a_gap_longer_than_a_window_the_last_window_meets_what_comes_after(start, stop):
    frames = 50
    of = plan(Task(task="fill", inputs=(video(frames),), missing=((start / FPS, stop / FPS),)), TRAINED)
    given, values = whole(of, 0, frames)
    assert np.flatnonzero(~given).tolist() == list(range(start, stop)) and set(range(start, stop)) <= set().union(*of.windows)
    assert len(of.windows) > 1 and all(len(window) <= WINDOW for window in of.windows)
    if start == 0:
        assert [window.start for window in of.windows] == sorted((window.start for window in of.windows), reverse=True)
    elif stop < frames:
        assert [stop in window for window in of.windows] == [False] * (len(of.windows) - 1) + [True]
        assert len(range(stop, of.windows[-1].stop)) >= TIME - 1
    # What is missing is not looked at, beyond the video's ends neither.
    before, after = whole(of, -4, 0), whole(of, frames, frames + 4)
    ends = {start - 1, stop} & set(range(frames))
    for given, values in (before, after):
        assert given.all() or set(values) <= ends


@pytest.mark.parametrize(("task", "first"), [("connect", 10), ("connect", 1), ("loop", 9), ("loop", 1)])
def test_what_lies_between_may_be_longer_than_a_window(task, first):
    inputs = (video(first), video(12, 100))[: 2 if task == "connect" else 1]
    of = plan(Task(task=task, inputs=inputs, seconds=6), TRAINED)
    made = on_grid(of)
    shown = [frame for stretch in of.shown for frame in stretch]
    given = {frame: bool(whole(of, frame, frame + 1)[0].all()) for frame in shown}
    assert len(shown) == of.frames >= 48 and len(of.windows) > 2 and all(len(window) <= WINDOW for window in of.windows)
    assert sum(given.values()) == first + (12 if task == "connect" else 0)
    assert {frame for frame in shown if not given[frame]} <= made


def test_missing_frames_start_from_a_cross_fade_and_several_gaps_are_windows_of_their_own():
    of = plan(Task(task="fill", inputs=(video(40),), missing=((0.5, 1.0), (3.0, 3.5))), TRAINED)
    assert len(of.windows) == 2 and whole(of, 0, 40)[1].tolist() == list(range(40))
    assert of.strength < 1


def test_of_a_region_only_that_is_made_at_the_times_that_are_missing():
    of = plan(Task(task="fill", inputs=(video(9),), region=(0.5, 0, 1, 0.5), missing=((0.5, 1.0),)), TRAINED)
    given = of.source(0, 9).given
    assert given[:4].all() and given[8].all() and not given[4:8, :4, 6:].any() and given[4:8, 4:].all() and given[4:8, :, :6].all()
    assert plan(Task(task="fill", inputs=(video(9),), region=(0, 0, 1, 0.5)), TRAINED).strength == 1  # nothing of what was there is left
    always = plan(Task(task="fill", inputs=(video(40),), region=(0, 0, 1, 0.5)), TRAINED)
    assert set().union(*always.windows) == set(range(40)) and not always.source(0, 40).given[:, :4].any()


def test_a_mask_is_a_picture_or_a_video_that_is_white_where_the_clip_is_made():
    drawn = np.zeros((2, *SIZE, 3), np.uint8)
    drawn[0, :4, 6:], drawn[1, 4:, :6] = 255, 255
    picture, moving = media.encode_image(drawn[0]), media.encode_video(drawn.repeat(4, axis=0), FPS, lossless=True)
    for kind in ("fill", "edit", "vary"):
        part = plan(Task(task=kind, inputs=(video(9),), mask=picture), TRAINED).source(2, 9)
        same = plan(Task(task=kind, inputs=(video(9),), region=(0.5, 0, 1, 0.5)), TRAINED).source(2, 9)
        np.testing.assert_array_equal(part.given, same.given)
        given = plan(Task(task=kind, inputs=(video(9),), mask=moving), TRAINED).source(2, 9).given
        np.testing.assert_array_equal(~given, drawn[[0, 0, 1, 1, 1, 1, 1]].any(axis=-1))  # the last frame holds
    one = plan(Task(task="fill", inputs=(video(9),), mask=picture, missing=((0.5, 1.0),)), TRAINED)
    assert one.source(0, 4).given.all() and not one.source(4, 8).given.all() and one.strength == 1


def test_a_loop_shows_each_frame_once_and_ends_in_what_is_new():
    of = plan(Task(task="loop", inputs=(video(20),)), TRAINED)
    order = [frame for stretch in of.shown for frame in stretch]
    values = np.concatenate([whole(of, stretch.start, stretch.stop)[1] for stretch in of.shown])
    assert values[:20].tolist() == list(range(20)) and len(order) == of.frames > 20
    assert order[-1] in of.windows[0] and not whole(of, order[-1], order[-1] + 1)[0].any()
    on_grid(of)


def test_a_loop_of_a_prompt_is_made_of_a_clip_that_is_made_first():
    task = Task(task="loop", prompt="x", seconds=3)
    first = before(task, TRAINED)
    base = plan(first, TRAINED)
    assert first.task == "text" and plan(task, TRAINED, Whole(base, {})).frames == 24
    assert before(Task(task="loop", inputs=(video(9),)), TRAINED) is None and before(Task(prompt="x"), TRAINED) is None


def test_two_videos_are_kept_with_what_lies_between():
    of = plan(Task(task="connect", inputs=(video(10), video(12, 100)), seconds=1), TRAINED)
    given, values = whole(of, 0, of.frames)
    assert of.frames == 30 and given.tolist() == [True] * 10 + [False] * 8 + [True] * 12
    assert values[:10].tolist() == list(range(10)) and values[18:].tolist() == list(range(100, 112))
    assert (np.diff(values[9:19]) > 0).all()  # from a cross-fade
    on_grid(of)


def test_a_blend_goes_from_one_video_to_the_other():
    of = plan(Task(task="blend", inputs=(video(17), video(20, 100))), TRAINED)
    given, values = whole(of, 0, 17)
    assert of.frames == 17 and values[0] == 0 and values[16] == 116 and (np.diff(values) > 0).all()
    assert given[0] and given[13:].all() and not given[1:13].any()


def test_an_edit_starts_from_its_input_and_keeps_what_is_outside_its_region():
    of = plan(Task(task="edit", inputs=(video(9),), prompt="x", strength=0.4), TRAINED)
    assert of.strength == 0.4 and not of.source(0, 9).given.any() and whole(of, 0, 9)[1].tolist() == list(range(9))
    part = plan(Task(task="edit", inputs=(video(9),), prompt="x", region=(0, 0, 0.5, 1)), TRAINED).source(0, 9)
    assert part.given[:, :, 6:].all() and not part.given[:, :, :6].any()
    assert plan(Task(task="vary", inputs=(still(3),)), TRAINED).frames == 1


def test_scenes_of_a_storyboard_follow_each_other():
    of = plan(Task(storyboard=((2, "a"), (1, "b"))), TRAINED)
    assert of.frames == 24 and [of.prompt(frame) for frame in (0, 15, 16, 23, 99)] == ["a", "a", "b", "b", "b"]
    on = plan(Task(task="extend", inputs=(video(9),), storyboard=((1, "a"), (1, "b"))), TRAINED)
    assert on.frames == 9 + 16 and [on.prompt(frame) for frame in (9, 16, 17)] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Task(task="image", inputs=(still(1), still(2)), seconds=0.25), "2 images are more than a clip of 2 frames can be given, 1"),
        (Task(task="image", inputs=(still(1),), seconds=0), "images fill all 1 frames: ask for more than 0.125 seconds"),
        (Task(task="image", inputs=(still(1),), at=(9.0,), seconds=1), "an image at 9 s lies outside a clip of 1 seconds"),
        (Task(task="image", inputs=(still(1), still(2)), at=(0.4, 0.5), seconds=2), "two images lie within 4 frames"),
        (Task(task="fill", inputs=(video(9),), missing=((5.0, 6.0),)), "missing is 5-6, but the video ends at 1.125 s"),
        (Task(task="fill", inputs=(video(9),), missing=((0.0, 6.0),)), "all of the video is missing"),
        (Task(task="loop", inputs=(video(9),), seconds=1), "a loop of 1 seconds has no room after a video of 1.125"),
        (Task(task="blend", inputs=(video(5), video(20))), "the shorter video has 5 frames, too few to blend: expected 9 or more"),
        (Task(task="vary", inputs=("none.mp4",)), "none.mp4 is not there"),
        (Task(task="edit", inputs=(video(9),), mask=still(0)), "the mask of edit has nothing white"),
        (Task(task="edit", inputs=(video(9),), mask="none.png"), "none.png is not there"),
    ],
)
def test_what_cannot_be_done_says_what_to_ask_instead(task, said):
    with pytest.raises(UserError, match=said):
        plan(task, TRAINED)


def test_a_loop_too_short_says_how_long_it_must_be():
    with pytest.raises(UserError, match="a loop of 4 frames has no room to go over: ask for 0.625 seconds or more"):
        before(Task(task="loop", prompt="x", seconds=0.5), TRAINED)


def test_a_cross_fade_goes_evenly():
    ends = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 100, np.uint8)
    assert cross_fade(*ends, 3)[:, 0, 0, 0].tolist() == [25, 50, 75]


def test_windows_are_as_long_as_trained_at_any_rate():
    class Generator:
        time = 4

        class policy:
            max_frames, fps = 17, 8.0

    for fps, window, overlap in ((8.0, 17, 9), (24.0, 49, 25), (1.0, 5, 1)):
        found = Trained.of(Generator, fps, SIZE)
        assert (found.window, found.overlap) == (window, overlap)

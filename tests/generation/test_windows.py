"""Windows cover a clip and overlap in whole latents; parts are made once, and what was known fades into what is new."""

import numpy as np
import pytest

from videodit.generation.canvas import Canvas
from videodit.generation.generator import Made
from videodit.generation.windows import Finished, Part, PartFiles, Plan, Whole, backward, finished, forward, making, met, share_of_new

SIZE = (4, 6)


def grey(*values):
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), *SIZE, 3)).copy()


def plan(windows, given, shown, **changes):
    """A plan whose source's frame n is n grey, and is given where `given(n)`."""

    def source(start, stop):
        numbers = np.arange(start, stop)
        known = np.broadcast_to(np.array([given(n) for n in numbers])[:, None, None], (len(numbers), *SIZE))
        return Canvas(frames=grey(*np.clip(numbers, 0, 255)), given=known)

    return Plan(size=SIZE, windows=windows, source=source, prompt=str, shown=shown, **changes)


def answer(request, frames, latents=0.0, time=1):
    """What a generator would make of a request: `frames`, and `latents` everywhere."""
    return Made(clip=frames, latents=np.full((1 + -(-(request.frames - 1) // time), 2, 3, 5), latents, np.float32))


def carry_out(of, parts, value=200):
    """Answers each request with frames of `value` and latents that are its number, keeping what is known; returns the requests."""
    steps, asked, made = making(of, parts, reach=2), [], None
    while True:
        try:
            request = steps.send(made)
        except StopIteration:
            return asked
        asked.append(request)
        frames = np.full((request.frames, *SIZE, 3), value, np.uint8)
        if request.canvas is not None:
            frames[request.canvas.given] = request.canvas.frames[request.canvas.given]
        made = answer(request, frames, latents=len(asked), time=of.time)


@pytest.mark.parametrize("time", [1, 4, 8])
@pytest.mark.parametrize("stop", [1, 9, 17, 18, 40, 100])
@pytest.mark.parametrize("latents", [2, 3, 5])
def test_windows_forward_cover_every_frame_and_begin_on_the_grid_of_latents(time, stop, latents):
    window = 1 + (latents - 1) * time
    overlap = 1 + (latents - 1) // 2 * time
    if overlap == window:
        overlap = 1
    found = forward(0, stop, window, overlap)
    assert found[0].start == 0 and found[-1].stop == stop and set().union(*found) == set(range(stop))
    assert all(len(each) <= window and each.start % time == 0 for each in found)
    assert all(b.start == a.stop - overlap for a, b in zip(found, found[1:]))


@pytest.mark.parametrize("time", [1, 4, 8])
@pytest.mark.parametrize("new", [1, 5, 8, 30])
def test_windows_backward_end_with_whole_latents_that_are_known(time, new):
    window, known = 1 + 4 * time, 2 * time
    found = backward(-new, 0, window, known, time)
    assert found[0].stop == known and found[-1].start <= -new < found[-1].stop
    assert all((len(each) - 1) % time == 0 and len(each) <= window for each in found)
    assert all(b.stop - known == a.start for a, b in zip(found, found[1:]))


def test_each_window_is_asked_for_once_with_what_was_made_before_it():
    windows = forward(0, 21, 9, 5)
    of, parts = plan(windows, lambda n: False, (range(21),), seed=-7), {}
    asked = carry_out(of, parts)
    assert [request.frames for request in asked] == [9, 9, 9, 9] == [len(window) for window in windows]
    assert asked[0].canvas is None and asked[0].seed == -7
    assert all(request.canvas.given[:5].all() and not request.canvas.given[5:].any() for request in asked[1:])
    assert all((request.canvas.history == request.canvas.given).all() for request in asked[1:])
    assert len({request.seed for request in asked}) == 4
    assert [request.prompt for request in asked] == ["0", "9", "13", "17"]
    assert carry_out(of, parts) == []
    assert all((frame == 200).all() for frame in finished(of, parts))


def test_latents_that_a_window_made_go_over_into_the_next_but_for_the_first_of_one_frame():
    of, parts = plan(forward(0, 29, 13, 5), lambda n: n == 18, (range(29),), time=4), {}
    _, second, third = (request.canvas and request.canvas.latents for request in carry_out(of, parts))
    assert second.shape == third.shape == (2, 2, 3, 5)
    assert np.isnan(second[0]).all() and (second[1] == 1).all()
    assert np.isnan(third).all()  # frame 18 was given, and made anew beside it was none of its latent
    assert parts[0].latents is not None and parts[2].latents is None  # no other goes on from the last


def test_where_the_grids_of_latents_do_not_meet_all_is_encoded_again():
    of, parts = plan(backward(-20, 0, 13, 4, 4), lambda n: n >= 0, (range(-20, 0),), time=4), {}
    assert all(request.canvas.latents is None for request in carry_out(of, parts))


def test_a_killed_run_goes_on_from_the_parts_that_are_there(tmp_path):
    of = plan(forward(0, 21, 9, 5), lambda n: False, (range(21),), time=4)
    whole: dict[int, Part] = {}
    carry_out(of, whole)
    parts = PartFiles(tmp_path)
    steps = making(of, parts, reach=2)
    first = steps.send(None)
    steps.send(answer(first, np.full((first.frames, *SIZE, 3), 200, np.uint8), latents=1, time=of.time))  # and killed
    assert len(carry_out(of, PartFiles(tmp_path))) == len(whole) - 1
    for a, b in zip(finished(of, PartFiles(tmp_path)), finished(of, whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_given_outside_windows_stays_to_the_bit_and_fades_inside():
    of, parts = plan((range(4, 13),), lambda n: n < 9, (range(13),)), {}
    steps = making(of, parts, reach=2)
    request = steps.send(None)
    assert not request.canvas.history.any()
    frames = np.full((request.frames, *SIZE, 3), 109, np.uint8)  # the VAE gives back other values than it was given
    with pytest.raises(StopIteration):
        steps.send(answer(request, frames))
    values = [int(frame[0, 0, 0]) for frame in finished(of, parts)]
    assert values[:4] == [0, 1, 2, 3] and values[9:] == [109] * 4
    assert all(a < b for a, b in zip(values[3:9], values[4:10])) and values[4] < 30 and values[8] > 85


def test_a_window_of_which_all_is_known_is_not_asked_for():
    of, parts = plan((range(9), range(4, 13)), lambda n: n >= 9, (range(13),)), {}
    assert [request.frames for request in carry_out(of, parts)] == [9]
    assert [int(frame[0, 0, 0]) for frame in finished(of, parts)] == [200] * 9 + [9, 10, 11, 12]


def test_only_what_is_shown_is_read():
    of = plan((range(-3, 6),), lambda n: n >= 0, (range(4, 6), range(0, 4)))
    parts = {}
    carry_out(of, parts)
    assert of.frames == 6 and [int(frame[0, 0, 0]) for frame in finished(of, parts)] == [4, 5, 0, 1, 2, 3]


def test_frames_are_final_once_all_windows_that_hold_them_are_made():
    of, parts = plan(forward(0, 29, 13, 5), lambda n: False, (range(29),)), {}
    made: dict[int, Part] = {}
    carry_out(of, made)
    frames, counts = Finished(of, parts), []
    for number in (None, 0, 1, 2):
        parts |= {} if number is None else {number: made[number]}
        counts.append(len(list(frames)))
    assert counts == [0, 8, 8, 13]


def test_a_clip_that_was_made_reads_as_an_input_does():
    of, parts = plan((range(0, 9),), lambda n: n != 4, (range(9),)), {}
    carry_out(of, parts)
    clip, frames = Whole(of, parts), np.stack(list(finished(of, parts)))
    assert clip.frames == 9
    np.testing.assert_array_equal(clip.read(3, 6), frames[3:6])
    np.testing.assert_array_equal(clip.read(-2, 12), frames[[0, 0, *range(9), 8, 8, 8]])


def test_new_pixels_count_whole_and_known_ones_less_the_further_they_are():
    given = np.ones((7, 8, 8), bool)
    given[4:] = False
    assert share_of_new(given, 2)[:, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])
    region = np.ones((1, 8, 8), bool)
    region[0, :, 4:] = False
    assert share_of_new(region, 3)[0, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])
    assert not share_of_new(np.ones((2, 4, 4), bool), 2).any()


def test_between_known_frames_no_step_is_larger_than_its_share():
    clip, given = grey(10, 10, 80, 80, 80, 80, 60, 60), np.zeros((8, *SIZE), bool)
    given[[0, 1, 6, 7]] = True
    values = met(clip, given)[:, 0, 0, 0].astype(int)
    assert values[[0, 1, 6, 7]].tolist() == [10, 10, 60, 60]
    assert np.abs(np.diff(values)).max() <= 70 / 5 + 20 / 5 + 1


def test_with_one_side_known_nothing_is_bent():
    clip, given = grey(10, 80, 80), np.zeros((3, *SIZE), bool)
    given[0] = True
    np.testing.assert_array_equal(met(clip, given), clip)

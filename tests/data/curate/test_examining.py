"""Examining decodes once and finds every clip; cutting gives each back, frame for frame, as the same bytes every time."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest

from videodit.data import media
from videodit.data.curate import CurateConfig, Examination, cut, examine
from videodit.data.curate.examining import SAMPLE_AT, _place
from videodit.data.video import Shown


def test_a_whole_file_is_its_own_bytes(clips):
    for name in ("clips/flower_bloom_960x540.mp4", "awkward/gif_rabbit_160x120.gif", "images/coffee_600x400.png"):
        examined = examine(clips / name, CurateConfig())
        content, fields = cut(clips / name, examined.info, examined.candidates[0])
        assert content == (clips / name).read_bytes()
        info = media.check(content)
        assert fields == {"format": info.format, "height": info.height, "width": info.width, "frames": info.frames, "fps": info.fps}


def test_an_examination_survives_json(clips):
    examined = examine(clips / "awkward/letterboxed_big_buck_bunny_320x240.mp4", CurateConfig())
    assert Examination.from_json(json.loads(json.dumps(examined.to_json()))) == examined


def test_shots_are_cut_out_frame_for_frame(clips):
    for name in ("clips/roadtrip_hardcuts_vp9_10bit_426x240.webm", "awkward/two_video_two_audio_streams_nasa.mp4"):
        whole, examined = media.decode(clips / name), examine(clips / name, CurateConfig())
        assert sum(each.frames for each in examined.candidates) == len(whole)
        first = 0
        for each in examined.candidates:
            content, fields = cut(clips / name, examined.info, each)
            made = media.decode(content)
            assert made.shape[0] == fields["frames"] == each.frames and media.check(content).fps == pytest.approx(each.fps, rel=1e-4)
            errors = np.abs(made[:, ::4, ::4].astype(int) - whole[first : first + each.frames, ::4, ::4]).mean((1, 2, 3))
            assert errors.max() < 6, (name, each.start)
            first += each.frames


def test_the_same_clip_is_the_same_bytes(clips):
    source = clips / "clips/roadtrip_hardcuts_vp9_10bit_426x240.webm"
    examined = examine(source, CurateConfig())
    assert examined == examine(source, CurateConfig())
    assert cut(source, examined.info, examined.candidates[1]) == cut(source.read_bytes(), examined.info, examined.candidates[1])


def test_black_and_still_ends_are_cut_off(shot, encoded):
    clip = shot(1, 24)
    source = encoded(np.zeros_like(clip[:6]), clip, np.repeat(clip[-1:], 30, 0), np.zeros_like(clip[:5]))
    (found,) = examine(source, CurateConfig(shots=False)).candidates
    assert (found.frames, found.start, found.end) == (24, pytest.approx(6 / 24, abs=1e-3), pytest.approx(30 / 24, abs=1e-3))
    made = media.decode(cut(source, examine(source, CurateConfig()).info, found)[0])
    assert np.abs(made.astype(int) - clip).mean() < 6
    (whole,) = examine(source, CurateConfig(shots=False, trim_ends=False)).candidates
    assert whole.frames == 65


def test_a_black_file_is_left_out_with_the_reason_and_a_still_one_stays(clips):
    (black,) = examine(clips / "awkward/black_frames.mp4", CurateConfig()).candidates
    assert black.reason == "black from start to end"
    (still,) = examine(clips / "awkward/static_still_coffee.mp4", CurateConfig()).candidates
    assert still.reason is None and still.frames == 72


def test_short_shots_are_left_out_with_the_reason(shot, encoded):
    found = examine(encoded(shot(1, 12), shot(2, 3), shot(3, 12)), CurateConfig(min_frames=5)).candidates
    assert [each.frames for each in found] == [12, 3, 12]
    assert [each.reason for each in found] == [None, "frames 3 are below data.curate.min_frames 5", None]


def test_a_clip_of_one_frame_is_cut_as_a_picture(shot, encoded):
    source = encoded(shot(1, 12), shot(2, 12))
    examined = examine(source, CurateConfig())
    one = media.dataclasses.replace(examined.candidates[1], frames=1)
    content, fields = cut(source, examined.info, one)
    assert fields["format"] == "png" and np.abs(media.decode(content)[0].astype(int) - shot(2)[0]).mean() < 6


def test_a_part_of_a_file_of_variable_rate_keeps_its_usual_rate_and_its_time():
    info = media.MediaInfo(kind="video", format="mp4", codec="h264", height=8, width=8, frames=40, fps=21.3, duration=2.0)
    gaps = np.r_[np.full(12, 1 / 30), 0.5, np.full(6, 1 / 30)]
    times = 0.7 + np.r_[0, np.cumsum(gaps)]
    place = _place(times, np.full(20, 1 / 30), info)
    assert place["fps"] == pytest.approx(30) and place["frames"] == pytest.approx((times[-1] + 1 / 30 - 0.7) * 30, abs=1)


@pytest.mark.parametrize("rate", [24000 / 1001, 25.0, 30000 / 1001, 60000 / 1001])
def test_rounded_timestamps_neither_lose_nor_repeat_a_frame_of_a_part(rate):
    info = media.MediaInfo(kind="video", format="webm", codec="vp9", height=8, width=8, frames=9999, fps=rate, duration=333.0)
    for first in range(0, 600, 3):
        times = np.round(np.arange(first, first + 60) / rate, 3)  # as Matroska stores them
        place = _place(times, np.full(60, round(1 / rate, 3)), info)
        shown = (Shown(time, 1 / rate, number) for number, time in enumerate(times))
        sampled = media._resample(shown, place["start"] + SAMPLE_AT / place["fps"], place["fps"])
        assert list(itertools.islice(sampled, place["frames"])) == list(range(60))


def test_a_changed_file_is_an_error(shot, encoded):
    examined = examine(encoded(shot(1, 12), shot(2, 12)), CurateConfig())
    with pytest.raises(media.MediaError, match="holds 0 of the 12 frames|no frame"):
        cut(encoded(shot(1, 6)), examined.info, examined.candidates[1])


def test_a_broken_file_gives_its_reason(clips):
    with pytest.raises(media.MediaError, match="broken data"):
        examine(clips / "awkward/bitflips_bottles.mp4", CurateConfig())


def test_memory_does_not_grow_with_the_length(shot, encoded):
    def peak(frames):
        source = encoded(shot(1, frames))
        examine(source, CurateConfig())  # what is loaded or cached once
        tracemalloc.start()
        examine(source, CurateConfig())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(480) - peak(60) < 420 * 400  # bytes; a small frame alone has 20,000

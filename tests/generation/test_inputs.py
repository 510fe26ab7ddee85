"""Files of any kind are read as frames of one size and rate, a part at a time."""

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import media
from videodit.data.sizes import SizePolicy
from videodit.generation.inputs import Input, digest, size_of


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def video(frames):
    return media.encode_video(frames, 8, lossless=True)


def test_any_part_of_a_video_is_as_the_whole_of_it(frames, video):
    source = Input(video, (16, 24), 8)
    assert source.frames == 12
    for start, stop in ((0, 12), (3, 7), (7, 9), (9, 12), (11, 12), (0, 1)):
        np.testing.assert_array_equal(source.read(start, stop), frames[start:stop])


def test_beyond_its_ends_the_first_and_last_frame_go_on(frames, video):
    found = Input(video, (16, 24), 8).read(-2, 14)
    np.testing.assert_array_equal(found, frames[np.clip(np.arange(-2, 14), 0, 11)])
    np.testing.assert_array_equal(Input(video, (16, 24), 8).read(20, 22), frames[[11, 11]])


def test_rate_and_size_are_those_asked_for(frames, video):
    source = Input(video, (8, 8), 4)
    assert source.frames == 6 and source.read(0, 6).shape == (6, 8, 8, 3)
    np.testing.assert_array_equal(Input(video, (16, 24), 4).read(0, 6), frames[::2])


def test_a_still_is_one_frame(frames):
    source = Input(media.encode_image(frames[0]), (16, 24), 8)
    assert source.frames == 1
    np.testing.assert_array_equal(source.read(0, 3), frames[[0, 0, 0]])


def test_a_clip_is_made_at_the_size_at_which_it_would_be_trained(video):
    assert size_of(video, SizePolicy(max_tokens=128)) == (16, 24)
    assert size_of(video, SizePolicy(max_tokens=8)) != (16, 24)


def test_what_is_no_file_or_no_media_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("not a video")
    for path, said in ((tmp_path / "none.mp4", "none.mp4 is not there"), (tmp_path / "a.mp4", "a.mp4 cannot be read as a video")):
        with pytest.raises(UserError, match=said):
            Input(str(path), (16, 16), 8)


def test_a_file_is_counted_once_for_each_rate_and_again_when_it_changes(frames, video, tmp_path, monkeypatch):
    counted, path = [], tmp_path / "a.mp4"
    count = media.count_frames
    monkeypatch.setattr(media, "count_frames", lambda source, fps: counted.append(fps) or count(source, fps=fps))
    path.write_bytes(video)
    assert [Input(str(path), size, fps).frames for size, fps in (((16, 24), 8), ((8, 8), 8), ((8, 8), 4))] == [12, 12, 6]
    assert counted == [8, 4]
    path.write_bytes(media.encode_video(frames[:5], 8, lossless=True))
    assert Input(str(path), (16, 24), 8).frames == 5


def test_equal_files_have_equal_digests(tmp_path, video):
    (tmp_path / "a.mp4").write_bytes(video)
    assert digest(str(tmp_path / "a.mp4")) == digest(video) != digest(b"")

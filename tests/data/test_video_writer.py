"""A video can be played while it is written, and is in the end what it would have been at once."""

import av
import numpy as np
import pytest

from videodit.data import media
from videodit.data.video_writer import VideoWriter, finish


def noise(frames, height=36, width=64):
    steps = np.random.default_rng(0).integers(-3, 4, (frames, height, width, 3))
    return np.cumsum(steps, axis=0).astype(np.uint8)


def playable(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_growing_file_plays_up_to_about_a_second_behind_the_encoder(tmp_path):
    with VideoWriter(str(tmp_path / "a.mp4"), 8.0, growing=True) as writer:
        for number, frame in enumerate(noise(120), 1):
            writer.write(frame)
            if number in (60, 120):
                assert number - 20 < playable(tmp_path / "a.mp4") < number
    assert playable(tmp_path / "a.mp4") == 120


@pytest.mark.parametrize(("frames", "height", "width", "fps"), [(40, 36, 64, 8.0), (1, 37, 63, 24.0), (30, 160, 200, 29.97)])
def test_finished_it_is_what_it_would_have_been_at_once(tmp_path, frames, height, width, fps):
    clip = noise(frames, height, width)
    with VideoWriter(str(tmp_path / "a.mp4"), fps, growing=True) as writer:
        for frame in clip:
            writer.write(frame)
    finish(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"))
    at_once = media.encode_video(clip, fps)
    assert media.probe(str(tmp_path / "b.mp4")) == media.probe(at_once)
    np.testing.assert_array_equal(media.decode(str(tmp_path / "b.mp4")), media.decode(at_once))
    assert abs((tmp_path / "b.mp4").stat().st_size - len(at_once)) < 16


def test_a_video_of_no_frames_is_named():
    with pytest.raises(ValueError, match="a video of no frames"):
        media.encode_stream([], 8.0)


def test_what_is_broken_off_leaves_its_file_and_the_error(tmp_path):
    with pytest.raises(KeyError), VideoWriter(str(tmp_path / "a.mp4"), 8.0, growing=True) as writer:
        writer.write(noise(1)[0])
        raise KeyError
    with pytest.raises(KeyError), VideoWriter(str(tmp_path / "b.mp4"), 8.0):
        raise KeyError

"""Frames come out upright, in sRGB, by their timestamps; what cannot be read says why; equal frames encode to equal
bytes."""

from fractions import Fraction
import io
import time

import av
import numpy as np
from PIL import Image
import pytest

from videodit.data import media
from videodit.data.video import Video


def moving_square(frames=9, height=40, width=48):
    """A bright square that moves one pixel a frame over a gradient."""
    clip = np.zeros((frames, height, width, 3), np.uint8)
    clip[..., 0] = np.linspace(20, 120, width, dtype=np.uint8)
    for t in range(frames):
        clip[t, 10:22, 5 + t : 17 + t] = (230, 180, 40)
    return clip


def variable_rate(times_ms):
    """An MP4 whose frame k is of brightness 10 * k and shows from `times_ms[k]` on."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "1", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, stamp in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def shown(clip):
    return [round(float(frame.mean()) / 10) for frame in clip]


@pytest.mark.parametrize("shape", [(9, 40, 40), (5, 33, 47), (1, 16, 16), (3, 144, 160), (2, 145, 131)])
def test_encoded_video_keeps_size_count_and_pixels(shape):
    clip = moving_square(shape[0], shape[1] if shape[1] > 24 else 32, shape[2] if shape[2] > 32 else 48)
    decoded = media.decode(media.encode_video(clip, 8.0))
    assert decoded.shape == clip.shape and decoded.dtype == np.uint8
    error = decoded.astype(np.float64) - clip
    assert 10 * np.log10(255**2 / np.mean(error**2)) > (38 if min(clip.shape[1:3]) < 128 else 30)


def test_lossless_video_keeps_every_bit():
    clip = np.random.default_rng(0).integers(0, 256, (5, 37, 41, 3)).astype(np.uint8)
    np.testing.assert_array_equal(media.decode(media.encode_video(clip, 8.0, lossless=True)), clip)


def test_equal_frames_are_equal_bytes():
    first = media.encode_video(moving_square(), 8.0)
    time.sleep(1.1)  # a time stamp in the file would show
    assert media.encode_video(moving_square(), 8.0) == first
    assert media.encode_image(moving_square()[0]) == media.encode_image(moving_square()[0])


@pytest.mark.parametrize("height,width", [(16, 16), (24, 40), (40, 64), (136, 136)])
def test_bytes_do_not_depend_on_what_memory_held_before(height, width):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    clips = [
        np.stack([np.sin((x + k * rng.uniform(0.5, 1)) / width * 6 + y / height * 4) * 100 + 128 for k in range(13)]) for _ in range(4)
    ]
    clips = [np.repeat(clip[..., None], 3, axis=-1).astype(np.uint8) for clip in clips]

    def encode_after_litter(clip):
        litter = [np.frombuffer(rng.bytes(int(2 ** rng.uniform(8, 17))), np.uint8).copy() for _ in range(200)]
        del litter  # the allocator hands these pages to the encoder
        return media.encode_video(clip, 8.0)

    for clip in clips:
        assert len({encode_after_litter(clip) for _ in range(20)}) == 1


def test_video_at_its_own_rate_is_every_frame_once():
    clip = moving_square(17)
    for fps in (8.0, 24.0, 29.97, 30.0):
        source = media.encode_video(clip, fps)
        np.testing.assert_array_equal(media.decode(source, fps=fps), media.decode(source))


def test_resampling_shows_what_is_on_screen_at_each_time():
    source = variable_rate([0, 100, 200, 300, 800, 900])
    clip = media.decode(source, fps=10.0)
    assert shown(clip)[:9] == [0, 1, 2, 3, 3, 3, 3, 3, 4]
    assert shown(media.decode(source, fps=5.0))[:4] == [0, 2, 3, 3]
    assert shown(media.decode(source, fps=10.0, start=0.3, frames=2)) == [3, 3]


def test_frames_are_counted_as_they_are_decoded():
    for source in (variable_rate([0, 100, 200, 300, 800, 900]), media.encode_image(moving_square()[0])):
        for fps in (None, 3.0, 10.0, 24.0):
            assert media.count_frames(source, fps=fps) == len(media.decode(source, fps=fps))


def test_start_and_frames_agree_with_the_whole():
    source = media.encode_video(moving_square(60, 64, 96), 10.0)
    whole = media.decode(source, fps=5.0)
    assert len(whole) == 30
    for start in (0.0, 0.4, 2.0, 5.8):
        np.testing.assert_array_equal(media.decode(source, fps=5.0, start=start, frames=4), whole[round(start * 5) :][:4])


def test_start_after_the_end_is_an_error():
    with pytest.raises(media.MediaError, match="no frame at 9.000 s"):
        media.decode(media.encode_video(moving_square(), 8.0), fps=8.0, start=9.0)


def test_size_covers_and_cuts_evenly():
    image = np.zeros((60, 120, 3), np.uint8)
    image[:, 30:90] = 255  # the middle square, which alone should be left
    for source in (media.encode_image(image), media.encode_video(image[None], 8.0)):
        clip = media.decode(source, size=(30, 30))
        assert clip.shape == (1, 30, 30, 3) and clip[:, :, 1:-1].min() > 230


@pytest.mark.parametrize(
    "mode,colour,expected",
    [
        ("L", 77, (77, 77, 77)),
        ("RGBA", (200, 10, 10, 0), (255, 255, 255)),
        ("LA", (50, 255), (50, 50, 50)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_stills_of_any_mode_come_out_as_rgb(mode, colour, expected):
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), colour).save(buffer, format="TIFF")
    clip = media.decode(buffer.getvalue())
    assert clip.shape == (1, 6, 8, 3) and tuple(clip[0, 2, 3]) == expected


@pytest.mark.parametrize(
    "content,reason",
    [
        (b"", "empty file"),
        (b"hello, this is no video\n", "text"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"#EXTM3U\n/etc/passwd\n", "text"),
        (bytes(range(256)) * 40, "not a media file"),
    ],
)
def test_what_is_no_media_says_what_it_is(content, reason):
    for read in (media.probe, media.check, media.decode):
        with pytest.raises(media.MediaError, match=reason):
            read(content)


def test_write_picks_the_format_and_leaves_nothing_behind(tmp_path):
    assert media.write(tmp_path / "clip", moving_square(), 8.0).name == "clip.mp4"
    assert media.write(tmp_path / "picture", moving_square(1), 8.0).name == "picture.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "picture.png"]
    np.testing.assert_array_equal(media.decode(tmp_path / "picture.png"), moving_square(1))


def test_rotated_files_come_out_upright(clips):
    upright = media.decode(clips / "awkward/rotated_keyboard_000_3frames.mov").astype(np.float64)
    for turn, size in ((0, (320, 568)), (90, (568, 320)), (180, (320, 568)), (270, (568, 320))):
        clip = media.decode(clips / f"awkward/rotated_keyboard_{turn:03d}_3frames.mov")
        assert clip.shape[1:3] == size
    assert upright.shape == (3, 320, 568, 3)
    assert media.decode(clips / "awkward/portrait_by_displaymatrix_bee.mp4", frames=1).shape == (1, 720, 404, 3)
    # The portrait crop, applied upright, must be the middle of the clip it was made from.
    portrait = media.decode(clips / "awkward/portrait_by_displaymatrix_bee.mp4", frames=1, size=(180, 101))[0].astype(np.float64)
    whole = media.decode(clips / "clips/carpenter_bee_1280x720.mp4", frames=1, size=(180, 320))[0].astype(np.float64)
    errors = [np.abs(whole[:, left : left + 101] - portrait).mean() for left in range(320 - 101)]
    turned = [np.abs(whole[:, left : left + 101] - portrait[::-1, ::-1]).mean() for left in range(320 - 101)]
    assert min(errors) < 6 < min(turned)


def test_stills_follow_their_exif_orientation_and_odd_pixels_become_square(clips):
    assert media.probe(clips / "images/waterfall_exif_orientation6_1200x1800.jpg").width == 1800
    assert media.decode(clips / "images/waterfall_exif_orientation6_1200x1800.jpg").shape == (1, 1200, 1800, 3)
    info = media.probe(clips / "awkward/nonsquare_pixels_flower_sar32x27.mp4")
    assert (info.height, info.width) == (480, 853)


def test_a_late_part_of_a_long_clip_is_decoded_without_the_whole(clips, monkeypatch):
    source, decoded, all_frames = clips / "clips/cat_portrait_1080x1920.webm", [], Video._decoded
    monkeypatch.setattr(Video, "_decoded", lambda self: (decoded.append(frame.pts) or frame for frame in all_frames(self)))
    stream = media.stream_frames(source, fps=8.0, start=20.0, size=(64, 36))
    parts = [next(stream) for _ in range(3)]
    assert parts[0].shape == (64, 36, 3) and len(decoded) < 200  # of 1393; frame 600 is the first wanted


def test_seeking_finds_the_same_frames_as_decoding_up_to_them(clips):
    for name in (
        "clips/rabbit_figurine_320x240.mp4",
        "awkward/vp8_flower_960x540.webm",
        "awkward/nonzero_start_time_bee.mkv",
        "awkward/mpeg2_bottles.ts",
        "awkward/mpeg4_rabbit.avi",
        "awkward/interlaced_flower.mp4",
        "awkward/gif_rabbit_160x120.gif",
    ):
        whole = media.decode(clips / name, fps=8.0, frames=15, size=(24, 32))
        np.testing.assert_array_equal(media.decode(clips / name, fps=8.0, start=1.5, frames=3, size=(24, 32)), whole[12:15], err_msg=name)


def test_hdr_comes_out_as_bright_as_a_screen_shows_it(clips):
    name = "clips/rooftop_hdr10_hevc_1920x1080.mp4"
    frame = media.decode(clips / name, frames=1, size=(54, 96))[0].astype(int)
    assert media.probe(clips / name).hdr
    sky = frame[12:18, 60:84]
    assert (sky[..., 2] - sky[..., 0]).mean() > 60  # washed-out grey if PQ were read as sRGB


def test_tags_that_are_not_utf8_are_no_obstacle():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        container.metadata["title"] = "ABCDEFGH"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for pixels in moving_square(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert media.check(buffer.getvalue().replace(b"ABCDEFGH", b"AB\xff\xfeEFGH")).frames == 3

"""Every awkward real file ends as a careful reader of its manifest line expects: decoded in full, or left out with the reason."""

from fractions import Fraction
import io
import itertools
import json

import av
import numpy as np
from PIL import Image
import pytest

from videodit.data import media
from videodit.data.pixels import Pixels
from videodit.data.video import open_video

# What cannot be used, and the reason that is to be given.
BROKEN = {
    "audio_only.mp4": "no video stream, only sound",
    "bitflips_bottles.mp4": "broken data: .* after 21 good frames, 0.70 s of 6.00 s",
    "corrupted_decord.mp4": "broken data: .* after 28 good frames, 2.80 s of 5.00 s",
    "empty_file.mp4": "empty file",
    "html_error_page_named.mp4": "web page",
    "invalid_bitstream_vp9.webm": "broken data",
    "text_named.mp4": "text, not media",
    "truncated_bear.webm": "cut short: 1.4. s of the 2.7. s",
    "truncated_elephant.jpg": "truncated",
    "truncated_index_first_flower.mp4": "damaged or cut off, after 60 good frames, 2.00 s of 5.0. s",
    "truncated_no_index_water.mp4": "not a media file, or cut off before its index",
}


@pytest.fixture(scope="module")
def rows(clips):
    lines = (clips / "manifest.jsonl").read_text().splitlines()
    return {row["file"].removeprefix("awkward/"): row for row in map(json.loads, lines) if row["file"].startswith("awkward/")}


def test_every_file_has_a_row_and_every_row_a_file(clips, rows):
    assert {path.name for path in (clips / "awkward").iterdir()} == set(rows) >= set(BROKEN)


def test_broken_files_say_why(clips):
    for name, reason in BROKEN.items():
        with pytest.raises(media.MediaError, match=reason):
            media.check(clips / "awkward" / name)


def test_the_rest_decodes_to_what_the_manifest_says(clips, rows):
    for name, row in rows.items():
        if name in BROKEN:
            continue
        info = media.check(clips / "awkward" / name)
        height, width = row["height"], row["width"]
        sar = Fraction(row.get("sar", 1))
        height, width = (height, round(width * sar)) if sar >= 1 else (round(height / sar), width)
        upright = (width, height) if row["rotation"] % 180 else (height, width)
        assert (info.frames, info.height, info.width) == (row["frames"], *upright), name
        assert info.codec == row["codec"] or name == "jpeg_named.mp4", name
        if row["frames"] > 1:
            length = row["last_pts"] - row["first_pts"]
            assert length <= info.duration <= length + row["max_dt"] + 0.01, name
            assert info.frames / info.fps == pytest.approx(info.duration, abs=0.002), name


def test_frames_of_all_are_of_the_size_that_was_said_and_upright_in_time(clips, rows):
    for name in set(rows) - set(BROKEN):
        info = media.probe(clips / "awkward" / name)
        frames = list(itertools.islice(media.stream_frames(clips / "awkward" / name), 3))
        assert {frame.shape for frame in frames} == {(info.height, info.width, 3)}, name


def test_grey_files_are_grey_and_black_files_black(clips):
    for name in ("grayscale_h264_monochrome_flower.mp4", "grayscale_gray8_ffv1_flower.mkv"):
        clip = media.decode(clips / "awkward" / name, fps=4.0, frames=3).astype(int)
        assert np.abs(clip - clip[..., :1]).max() <= 2 and clip.std() > 20, name
    assert media.decode(clips / "awkward/black_frames.mp4", fps=2.0).max() <= 2


def test_interlaced_frames_are_deinterlaced_at_their_own_count_and_times(clips):
    source = clips / "awkward/interlaced_flower.mp4"

    def combing(frames):
        # Interlacing puts lines of two times beside each other: neighbours differ more than lines two apart.
        luma = np.stack(frames).astype(float).mean(-1)
        return np.abs(np.diff(luma, axis=1)).mean() / np.abs(luma[:, 2:] - luma[:, :-2]).mean()

    with open_video(source) as video:
        pixels = Pixels(video)
        stored = [pixels(frame) for frame in itertools.islice(video.container.decode(video.stream), 40)]
    with open_video(source) as video:
        shown = list(video.frames())
    assert len(shown) == 75 and not any(each.frame.interlaced_frame for each in shown)
    np.testing.assert_allclose([each.time for each in shown], np.arange(75) * 1001 / 15000, atol=1e-4)
    made = list(itertools.islice(media.stream_frames(source), 40))
    assert combing(made) < 0.95 * combing(stored)
    assert np.abs(np.stack(made).astype(int) - np.stack(stored)).mean() < 6


def test_what_is_progressive_is_not_touched_by_deinterlacing(clips):
    source = clips / "awkward/two_frames.mp4"
    with open_video(source) as video:
        pixels = Pixels(video)
        stored = [pixels(frame) for frame in video.container.decode(video.stream)]
    np.testing.assert_array_equal(np.stack(stored), media.decode(source))


def animation(format, **options):
    """Three pictures of 100, 300 and 200 ms with a transparent hole."""
    pictures = [Image.new("RGBA", (24, 16), (40, 80 * k, 0, 255)) for k in range(3)]
    for picture in pictures:
        picture.paste((0, 0, 0, 0), (12, 4, 20, 12))
    buffer = io.BytesIO()
    pictures[0].save(buffer, format=format, save_all=True, append_images=pictures[1:], duration=[100, 300, 200], loop=0, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format,options", [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {"disposal": 2})])
def test_animated_stills_are_videos_of_their_own_frames_and_times(format, options):
    source = animation(format, **options)
    info = media.check(source)
    assert (info.kind, info.frames, info.height, info.width) == ("video", 3, 16, 24)
    assert info.duration == pytest.approx(0.6, abs=0.02)
    clip = media.decode(source, fps=10.0)
    assert [int(frame[8, 4, 1]) for frame in clip] == pytest.approx([0, 80, 80, 80, 160, 160], abs=3)
    assert (clip[:, 8, 16] == 255).all()  # transparent lies on white


def test_a_still_of_16_bits_is_rounded_and_not_cut_off():
    levels = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(levels).save(buffer, format=format)
        np.testing.assert_array_equal(media.decode(buffer.getvalue())[0, ..., 0], np.round(levels / 257))


def test_video_with_alpha_lies_on_white():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgra"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 4), (9, 90, 200, 0), np.uint8), format="bgra")))
        container.mux(stream.encode())
    assert media.decode(buffer.getvalue()).min() == 255


def test_a_stream_that_changes_its_size_is_scaled_to_how_it_began():
    small, large = (av.VideoFrame.from_ndarray(np.full((h, w, 3), 120, np.uint8), format="rgb24") for h, w in ((32, 48), (64, 96)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        for number, frame in enumerate((small, large)):
            encoder = av.CodecContext.create("mpeg2video", "w")
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            if number == 0:
                stream = container.add_stream("mpeg2video", rate=25)
                stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for k in range(5):
                picture = frame.reformat(format="yuv420p")
                picture.pts, picture.time_base = 5 * number + k, Fraction(1, 25)
                for packet in encoder.encode(picture):
                    packet.stream = stream
                    container.mux(packet)
            for packet in encoder.encode():
                packet.stream = stream
                container.mux(packet)
    clip = media.decode(buffer.getvalue())
    assert len(clip) >= 9 and clip.shape[1:] == (32, 48, 3)

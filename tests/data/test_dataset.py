"""Clips come back as they were stored, by index, in any process, and their sizes are known without opening them."""

import pickle

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import media, shards
from videodit.data.dataset import INDEX, NAME, ClipDataset, JoinedClips, decode_record, features


def record(number):
    frames = np.full((1 if number % 3 == 0 else 5, 32, 40, 3), 20 * number, np.uint8)
    still = len(frames) == 1
    return {
        "key": f"clip-{number}", "media": media.encode_image(frames[0]) if still else media.encode_video(frames, 8.0),
        "format": "png" if still else "mp4", "height": 32, "width": 40, "frames": len(frames), "fps": 8.0,
        "captions": {"original": f"número {number} 猫", "descriptive": ""}, "source": "test", "state": "",
    }  # fmt: skip


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    cut = [lambda: map(record, range(4)), lambda: map(record, range(4, 7))]
    shards.write_shards(folder, name=NAME, features=features(), splits={"train": cut, "held_out": [lambda: iter(())]}, index=INDEX)
    return folder


def test_a_record_comes_back_as_it_was_stored(directory):
    dataset = ClipDataset(directory)
    assert len(dataset) == 7
    for i in (0, 5, 6):
        assert dataset[i] == record(i)


def test_sizes_and_rates_are_known_without_opening_a_record(directory):
    dataset = ClipDataset(directory)
    assert dataset.sizes.dtype == np.int32 and dataset.sizes.tolist() == [[1 if i % 3 == 0 else 5, 32, 40] for i in range(7)]
    assert dataset.fps.tolist() == [8.0] * 7 and dataset.keys[2] == "clip-2"
    assert dataset._source is None


def test_it_pickles_also_when_open_and_reads_in_its_copy(directory):
    dataset = ClipDataset(directory)
    first = dataset[1]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[1] == first and repr(copy) == repr(dataset) and copy.fingerprint == dataset.fingerprint


def test_joined_clips_are_those_of_each_part_in_turn(directory):
    part = ClipDataset(directory)
    joined = JoinedClips([part, ClipDataset(directory, "held_out"), part])
    assert len(joined) == 14 and joined.keys == part.keys * 2 and joined.sizes.tolist() == part.sizes.tolist() * 2
    assert [joined[i] for i in (0, 6, 7, 13)] == [record(i) for i in (0, 6, 0, 6)] and joined.fps.shape == (14,)


def test_an_empty_split_has_no_clips_and_another_fingerprint(directory):
    empty = ClipDataset(directory, "held_out")
    assert len(empty) == 0 and empty.sizes.shape == (0, 3)
    assert empty.fingerprint != ClipDataset(directory).fingerprint


def test_opening_reads_no_record(directory, monkeypatch):
    monkeypatch.setattr(shards, "open_split", lambda *_: pytest.fail("a record was asked for"))
    dataset = ClipDataset(directory)
    assert len(dataset) == len(dataset.keys) == len(dataset.sizes) == len(dataset.fps) > 3


def test_decode_record_names_the_record_that_is_broken(directory):
    clip = ClipDataset(directory)[1]
    assert decode_record(clip, fps=4.0).shape == (3, 32, 40, 3)
    with pytest.raises(media.MediaError, match="clip-1: "):
        decode_record(dict(clip, media=clip["media"][:100]))


def test_an_unfinished_directory_and_a_wrong_split_are_named(directory, tmp_path):
    with pytest.raises(UserError, match="no finished dataset"):
        ClipDataset(tmp_path)
    with pytest.raises(UserError, match="no split 'test'; it has held_out, train"):
        ClipDataset(directory, "test")

"""A hash stays where a picture looks the same, and is another where it does not."""

import itertools

import numpy as np

from videodit.data import media
from videodit.data.curate import CurateConfig, examine, near_duplicate
from videodit.data.curate.hashing import hex_digits, perceptual_hash


def hash_of(source):
    return examine(source, CurateConfig(shots=False)).candidates[0].measures["hash"]


def test_copies_that_were_scaled_and_encoded_again_hash_alike(clips):
    for name, share in (("big_buck_bunny_1280x720.mp4", 0.2), ("bear_320x240_vp9.webm", 0.5), ("stream_of_water_480x360.mp4", 0.7)):
        source = clips / "clips" / name
        info = media.probe(source)
        size = round(info.height * share), round(info.width * share)
        copy = media.encode_video(media.decode(source, size=size), info.fps)
        assert near_duplicate(hash_of(source), hash_of(copy)) <= 6, name


def test_copies_in_another_codec_hash_alike(clips):
    flower = hash_of(clips / "clips/flower_bloom_960x540.mp4")
    for name in ("vp8_flower_960x540.webm", "interlaced_flower.mp4", "vfr_irregular_flower.mp4"):
        assert near_duplicate(flower, hash_of(clips / "awkward" / name)) <= 6, name


def test_a_letterboxed_copy_hashes_as_the_original(shot, encoded):
    clip = shot(1)
    boxed = np.pad(clip, ((0, 0), (20, 20), (0, 0), (0, 0)))
    assert near_duplicate(hash_of(encoded(clip)), hash_of(encoded(boxed))) <= 6


def test_different_clips_hash_differently(clips):
    names = ("bear_320x240_vp9.webm", "stream_of_water_480x360.mp4", "desk_phone_h263_352x288.3gp", "rabbit_figurine_320x240.mp4")
    hashes = [hash_of(clips / "clips" / name) for name in names]
    assert min(near_duplicate(*pair) for pair in itertools.combinations(hashes, 2)) > 16


def test_hashes_of_random_pictures_differ_in_half_of_their_bits():
    rng = np.random.default_rng(0)
    hashes = [hex_digits(perceptual_hash(rng.integers(0, 256, (50, 70)).astype(np.uint8))) for _ in range(20)]
    distances = [near_duplicate(*pair) for pair in itertools.combinations(hashes, 2)]
    assert 28 < np.mean(distances) < 36 and min(distances) > 12 and {len(each) for each in hashes} == {16}


def test_contrast_and_brightness_do_not_count():
    picture = np.random.default_rng(0).integers(60, 200, (48, 64)).astype(np.uint8)
    flatter = picture // 2 + 20
    assert near_duplicate(hex_digits(perceptual_hash(picture)), hex_digits(perceptual_hash(flatter))) <= 2

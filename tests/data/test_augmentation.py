"""Augmented windows: other parts of their clips in each epoch, of the same shapes, a pure function of (seed, batch, row)."""

import collections
import itertools
import json

import numpy as np
import pytest

from videodit.core.config import to_dict
from videodit.data import augmentation, media
from videodit.data.augmentation import AugmentConfig, DecodedClips, draw_view, held_size, show
from videodit.data.curate import CurateConfig
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.pipeline import VAEBatches, VAEStage, read_window, vae_batches
from videodit.data.prepare import DataConfig, prepare
from videodit.data.sizes import SizePolicy
from videodit.evaluation.reconstruction import held_out_windows, reconstruct

EVERYTHING = AugmentConfig(scale=2.0, flip=0.5, shift=True)
POLICY = SizePolicy(max_frames=5, grid=(4, 8, 8), max_tokens=16)
NATIVE = {"wide": (20, 60, 96), "tall": (13, 70, 40), "small": (9, 16, 24), "still": (1, 80, 80)}  # frames, height, width


def scene(frames, height, width):
    """uint8 `[T, H, W, 3]` that says of each pixel where it is: red grows to the right, green downwards, blue with time."""
    column, row, frame = np.arange(width), np.arange(height)[:, None], np.arange(frames)[:, None, None]
    return np.stack(np.broadcast_arrays(20 + column * 200 // width, 20 + row * 200 // height, 20 + frame * 10), axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder, to = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("augmented") / "dataset"
    for name, size in NATIVE.items():
        media.write(folder / name, scene(*size), 8.0)
    prepare(DataConfig(source="files", inputs=str(folder), held_out_share=0.0, workers=1, curate=CurateConfig(shots=False)), to)
    return ClipDataset(to)


def stage(**fields):
    return VAEStage(**{"policy": POLICY, "batch": 2, "max_buckets": 2, "images": 0.4, "augment": EVERYTHING} | fields)


def source(dataset, seed=0, cache_bytes=0, mine=range, **fields):
    return VAEBatches(dataset, stage(**fields), seed, cache_bytes=cache_bytes, mine=mine)


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def views(config=EVERYTHING, native=(60, 96), window=(24, 40), starts=(0, 16), count=400):
    held = held_size(native, window, config.scale)
    return held, [draw_view(config, (0, n, 0), held, window, starts) for n in range(count)]


# -- what is drawn


@pytest.mark.parametrize(
    "native, window", [((60, 96), (24, 40)), ((60, 96), (32, 32)), ((16, 24), (24, 40)), ((30, 41), (24, 40)), ((720, 1280), (80, 128))]
)
@pytest.mark.parametrize("scale", [1.0, 1.3, 4.0])
def test_views_lie_inside_have_the_windows_shape_and_are_never_enlarged(native, window, scale):
    held, drawn = views(AugmentConfig(scale=scale, flip=0.5), native, window)
    assert all(side <= own for side, own in zip(held, native))
    cover = max(window[0] / native[0], window[1] / native[1])
    for view in drawn:
        assert all(0 <= place and place + part <= side + 1e-9 for place, part, side in zip(view.corner, view.size, held))
        assert view.size[0] / view.size[1] == pytest.approx(window[0] / window[1])
        if cover <= 1:  # a clip that is smaller than its window is enlarged, as without augmentation, and no further
            assert view.size[0] > window[0] - 1e-6 and view.size[1] > window[1] - 1e-6
        else:
            assert view.size[0] == pytest.approx(window[0] / cover) and view.size[1] == pytest.approx(window[1] / cover)
        assert show(np.zeros((2, *held, 3), np.uint8), view, window).shape == (2, *window, 3)


def test_every_scale_place_start_and_both_sides_come():
    held, drawn = views()
    zooms = [min(held[0] / 24, held[1] / 40) * 24 / view.size[0] for view in drawn]
    assert min(zooms) < 1.05 and max(zooms) > 1.9
    assert {view.first for view in drawn} == set(range(17)) and 150 < sum(view.flipped for view in drawn) < 250
    small = [view for view in drawn if view.size[0] < 30]
    for axis in range(2):
        assert min(view.corner[axis] for view in small) == 0
        assert max(view.corner[axis] + view.size[axis] for view in small) > held[axis] - 2


def test_what_is_drawn_belongs_to_seed_batch_and_row():
    drawn = lambda *key: draw_view(EVERYTHING, key, (48, 77), (24, 40), (0, 16))
    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert drawn(1, 2, 3) not in (drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0))


def test_a_view_shows_its_own_part():
    frames = scene(2, 48, 77)
    view = augmentation.View(held=(48, 77), corner=(10, 20), size=(24, 40), first=0, flipped=False)
    np.testing.assert_array_equal(show(frames, view, (24, 40)), frames[:, 10:34, 20:60])
    halved = show(frames, view, (12, 20)).astype(int)
    assert abs(halved - frames[:, 10:34:2, 20:60:2]).max() <= 6
    mirrored = augmentation.View(held=(48, 77), corner=(10, 20), size=(24, 40), first=0, flipped=True)
    np.testing.assert_array_equal(show(frames, mirrored, (24, 40)), frames[:, 10:34, 20:60][:, :, ::-1])


@pytest.mark.parametrize("wrong", [{"scale": 0.5}, {"flip": 1.5}])
def test_an_augmentation_that_cannot_be_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}, expected"):
        AugmentConfig(**wrong)


# -- batches


def test_shapes_are_the_buckets_and_every_window_comes_once_an_epoch(dataset):
    plain, augmented = source(dataset, augment=AugmentConfig()), source(dataset)
    assert augmented.buckets == plain.buckets
    for n in range(40):
        found, wanted = augmented(n), plain(n)
        assert found["pixels"].shape == wanted["pixels"].shape and found["pixels"].dtype == np.uint8
        np.testing.assert_array_equal(found["clip"], wanted["clip"])


def test_a_window_differs_from_epoch_to_epoch(dataset):
    batch_of, seen = source(dataset), collections.defaultdict(list)
    for n in range(60):
        batch = batch_of(n)
        for clip, pixels in zip(batch["clip"].tolist(), batch["pixels"]):
            seen[clip].append(pixels.tobytes())
    large = {clip: found for clip, found in seen.items() if dataset.keys[batch_of.windows[clip].record] != "small.mp4" and len(found) > 2}
    assert len(large) > 8 and all(len(set(found)) == len(found) for found in large.values())


def test_windows_begin_anywhere_in_their_clip_and_images_are_any_frame(dataset):
    """Blue says which frame it is."""
    firsts = {True: set(), False: set()}
    record = dataset.keys.index("wide.mp4")
    batch_of = source(dataset)
    for n in range(300):
        batch = batch_of(n)
        for clip, pixels in zip(batch["clip"].tolist(), batch["pixels"]):
            if batch_of.windows[clip].record == record:
                blue = pixels[..., 2].mean(axis=(1, 2))
                assert len(pixels) == 1 or np.allclose(np.diff(blue), 10, atol=3)  # frames that follow one another
                firsts[len(pixels) == 1].add(round((blue[0] - 20) / 10))
    assert firsts == {True: set(range(20)), False: set(range(16))}


def test_batches_are_a_pure_function_of_the_seed_and_their_number(dataset):
    wanted = [source(dataset, seed=1)(n) for n in range(8)]
    assert_same([source(dataset, seed=1)(n) for n in reversed(range(8))][::-1], wanted)
    others = map(source(dataset, seed=2), range(8))
    assert any(a["pixels"].shape != b["pixels"].shape or (a["pixels"] != b["pixels"]).any() for a, b in zip(wanted, others))


@pytest.mark.parametrize("cache_bytes", [0, 200_000, 10**8])
def test_they_go_on_from_a_saved_position(dataset, cache_bytes):
    iterator = vae_batches(source(dataset, cache_bytes=cache_bytes), threads=2)
    state = json.dumps(list(itertools.islice(iterator, 5)) and iterator.get_state())
    wanted = list(itertools.islice(iterator, 6))
    again = vae_batches(source(dataset, cache_bytes=cache_bytes), threads=2)
    again.set_state(json.loads(state))
    assert_same(list(itertools.islice(again, 6)), wanted)


def test_processes_read_their_clips_of_the_same_batches(dataset):
    whole = source(dataset)
    parts = [source(dataset, mine=lambda rows, i=i: range(rows * i // 2, rows * (i + 1) // 2)) for i in range(2)]
    for n in range(8):
        found = [part(n) for part in parts]
        for name in ("pixels", "clip", "row"):
            np.testing.assert_array_equal(np.concatenate([each[name] for each in found]), whole(n)[name])


def test_kept_clips_are_decoded_once_and_change_nothing(dataset, monkeypatch):
    decoded = collections.Counter()

    def counted(record, **options):
        decoded[record["key"], options["size"]] += 1
        return decode_record(record, **options)

    monkeypatch.setattr(augmentation, "decode_record", counted)
    wanted = [source(dataset)(n) for n in range(30)]
    assert max(decoded.values()) > 5
    for room in (10**8, 200_000):
        decoded.clear()
        cached = source(dataset, cache_bytes=room)
        assert_same([cached(n) for n in range(30)], wanted)
        kept = sum(each.nbytes for each in cached._clips._clips.values())
        assert 0 < kept <= room and (max(decoded.values()) == 1) == (room == 10**8)
    cached.forget()
    assert not cached._clips._clips
    assert_same([cached(n) for n in range(4)], wanted[:4])


def test_of_a_damaged_clip_the_windows_that_can_be_read_are(dataset, monkeypatch):
    record = dataset.keys.index("wide.mp4")
    calls = []

    def damaged(clip, *, start, frames, **options):
        calls.append(frames)
        if start * 8 + frames > 12:
            raise media.MediaError("frame 12 is corrupt")
        return decode_record(clip, start=start, frames=frames, **options)

    monkeypatch.setattr(augmentation, "decode_record", damaged)
    clips = DecodedClips(dataset, POLICY, [(record, (24, 40))], 10**8)
    for _ in range(2):
        assert clips.read(record, (24, 40), 3, 5).shape == (5, 24, 40, 3)
        with pytest.raises(media.MediaError, match="corrupt"):
            clips.read(record, (24, 40), 10, 5)
    assert calls.count(20) == 1  # it is not tried whole again


def test_there_is_no_frame_after_the_end_whether_a_clip_is_kept_or_not(dataset):
    record = dataset.keys.index("tall.mp4")
    for room in (0, 10**8):
        with pytest.raises(media.MediaError, match="no frame at 1.625 s"):
            DecodedClips(dataset, POLICY, [(record, (40, 24))], room).read(record, (40, 24), 13, 1)


def test_by_default_windows_are_as_they_are_read(dataset):
    batch_of = source(dataset, augment=AugmentConfig())
    assert batch_of._clips is None
    for n in range(6):
        batch = batch_of(n)
        for clip, pixels in zip(batch["clip"].tolist(), batch["pixels"]):
            np.testing.assert_array_equal(pixels, read_window(dataset, batch_of.windows[clip], POLICY.fps, len(pixels)))


class Identity:
    """Stands for a VAE that loses nothing."""

    def encode(self, pixels):
        return pixels

    decode = encode


def test_held_out_windows_are_never_augmented(dataset, tiny):
    config = tiny("vae", vae_training={"stages": (to_dict(stage()),)}, latents={"policy": to_dict(POLICY)})
    assert config.vae_training.stages[0].augment == EVERYTHING
    held_out, windows = held_out_windows(config, dataset.directory, 10)
    for window, (source, _) in zip(windows, reconstruct(config, held_out, Identity(), windows), strict=True):
        np.testing.assert_array_equal(source, read_window(held_out, window, POLICY.fps))

"""The pipelines: endless, a pure function of the seed, and able to go on from any point; no clip is lost or seen twice."""

import collections
import json

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.bad_records import BadRecords
from videodit.data.curriculum import MixtureConfig, SourceConfig
from videodit.data.dataset import ClipDataset
from videodit.data.order import PackingConfig, TextSizes
from videodit.data.pipeline import StagedBatches, VAEBatches, VAEStage, all_images, all_windows, packed_batches, read_window, vae_batches
from videodit.data.sizes import SizePolicy, tokens

CAPTIONS = {"original": "short", "descriptive": "a long one"}


class Latents:
    """Stands for a LatentDataset: clips of many sizes, clip i made of numbers i, at `fps` frames a second."""

    def __init__(self, count, captions=None, fps=8.0):
        self.fps = fps
        random = np.random.default_rng(0)
        self.sizes = np.stack([random.integers(1, 4, count), random.integers(2, 6, count), random.integers(2, 6, count)], axis=-1).astype(
            np.int32
        )
        self.captions = captions or CAPTIONS
        self.text_tokens = {kind: np.full((count, 1), [len(text.split()) + 1 if text else 0]) for kind, text in self.captions.items()}
        self.broken = ()

    def key_of(self, i):
        return f"clip-{i}"

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError("no such block")
        return {"clip": i, "key": str(i), "latents": np.full((*self.sizes[i], 2), i, np.float32), "captions": self.captions}


def tokenize(text, most):
    """A begin token, then a token a word that tells the words apart."""
    return [np.asarray([2, *[3 + len(word) for word in text.split()]][:most], np.int32)[:, None]]


def batches(count=20, seed=0, captions=None, latents=None, mine=None, bad=None, others=None, **changes):
    config = PackingConfig(**({"length": 96, "rows": 2, "bins": 4, "max_text_tokens": 8} | changes))
    sources = {"latents": latents or Latents(count, captions)} | (others or {})
    mixture = MixtureConfig(sources=tuple(SourceConfig(name=name, path="") for name in others or {}))
    text = TextSizes(empty=(1,), limits=(config.max_text_tokens,))
    read = lambda record, kind: tokenize(record["captions"][kind] if kind else "", config.max_text_tokens)
    return packed_batches(sources, mixture, config, (1, 1, 1), text, read, seed=seed, threads=2, bad=bad, mine=mine)


def clips_of(batch):
    """The clips of a batch, one entry a segment."""
    found = []
    for ids, clips in zip(batch["segment_ids"], batch["clip"]):
        for segment in range(1, ids.max() + 1):
            (clip,) = set(clips[ids == segment].tolist())
            found.append(clip)
    return found


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


# -- packed rows


def test_every_clip_is_whole():
    latents = Latents(20)
    for batch in take(batches(), 24):
        for ids, clips, modality in zip(batch["segment_ids"], batch["clip"], batch["modality"]):
            for segment in range(1, ids.max() + 1):
                inside = ids == segment
                assert (modality[inside] == 2).sum() == latents.sizes[clips[inside][0]].prod()


def test_patches_are_those_of_their_own_clip():
    for batch in take(batches(), 3):
        is_patch = batch["modality"] == 2
        np.testing.assert_array_equal(batch["patches"][is_patch], np.repeat(batch["clip"][is_patch][:, None], 2, axis=1))


def test_the_seed_decides_everything():
    assert_same(take(batches(seed=3), 4), take(batches(seed=3), 4))
    assert clips_of(next(batches(seed=3))) != clips_of(next(batches(seed=4)))


@pytest.mark.parametrize("points", [(0,), (1,), (2,), (5,), (1, 1, 1, 3)])
def test_packed_batches_go_on_from_a_saved_position(points):
    whole = take(batches(), sum(points) + 6)
    state, found = None, []
    for count in points:  # each part by an iterator of its own, as after a kill
        iterator = batches()
        if state:
            iterator.set_state(json.loads(state))
        found += take(iterator, count)
        state = json.dumps(iterator.get_state())
    iterator = batches()
    iterator.set_state(json.loads(state))
    assert_same(found + take(iterator, 6), whole)


def test_a_position_taken_before_reading_on_points_at_the_batch_after_it():
    iterator = batches()
    take(iterator, 3)
    state = iterator.get_state()
    ahead = take(iterator, 5)
    iterator.set_state(state)
    assert_same(take(iterator, 5), ahead)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_read_their_rows_of_the_same_batches(count):
    whole = take(batches(rows=4, bins=8), 6)
    parts = [take(batches(rows=4, bins=8, mine=range(4 * i // count, 4 * (i + 1) // count)), 6) for i in range(count)]
    for step, wanted in enumerate(whole):
        mine = [part[step] for part in parts]
        assert np.concatenate([each["row"] for each in mine]).tolist() == [0, 1, 2, 3] and {int(each["rows"]) for each in mine} == {4}
        for name in set(wanted) - {"row", "rows"}:
            np.testing.assert_array_equal(np.concatenate([each[name] for each in mine]), wanted[name])


def test_a_record_that_cannot_be_read_leaves_padding_and_changes_no_other():
    latents, bad = Latents(20), BadRecords()
    latents.broken = (3,)
    for found, wanted in zip(take(batches(latents=latents, bad=bad), 8), take(batches(), 8), strict=True):
        kept = [[clip for clip in sorted(set(row.tolist())) if clip != 3] for row in wanted["clip"] * (wanted["segment_ids"] > 0)]
        assert [sorted(set(row[ids > 0].tolist()) - {0}) for row, ids in zip(found["clip"], found["segment_ids"])] == [
            [clip for clip in row if clip] for row in kept
        ]
    assert bad.count > 0 and bad.lines() == ["skipped a record that cannot be read: clip-3: OSError: no such block"]


def test_too_many_bad_records_stop_the_run():
    latents = Latents(20)
    latents.broken = (3, 4)
    with pytest.raises(UserError, match="records could not be read, more than the share train.bad_share=0.01; the last: clip-[34]:"):
        take(batches(latents=latents), 100)
    latents.broken = range(20)
    with pytest.raises(UserError, match="no record of step 1 could be read"):
        take(batches(latents=latents), 1)


def test_an_index_that_does_not_fit_its_record_is_a_bad_record():
    latents, bad = Latents(20), BadRecords(share=1.0)
    latents.text_tokens = {kind: tokens + (np.arange(20) == 7)[:, None] for kind, tokens in latents.text_tokens.items()}
    take(batches(latents=latents, bad=bad), 12)
    (line,) = bad.lines()
    assert line.startswith("skipped a record that cannot be read: clip-7: ValueError: it has") and "the index says" in line


def test_frames_of_a_slower_source_last_longer_and_stills_have_no_rate():
    slow = Latents(20, fps=2.0)
    found = collections.defaultdict(set)
    for batch in take(batches(others={"slow": slow}), 6):
        for segment in np.unique(batch["segment_ids"])[1:]:
            inside = batch["segment_ids"] == segment
            for extent, step in zip(batch["extent"][inside], batch["time_step"][inside]):
                found[bool(extent[0] > 1)].add(float(step))
    assert found == {False: {1.0}, True: {1.0, 4.0}}


def test_a_long_caption_is_cut():
    latents = Latents(20, {"original": "", "descriptive": "one two three four five"})
    batch = next(batches(latents=latents, caption_dropout=0.0, max_text_tokens=4))
    for ids, modality in zip(batch["segment_ids"], batch["modality"]):
        assert {int((modality[ids == segment] == 1).sum()) for segment in range(1, ids.max() + 1)} == {4}


def test_the_same_clip_draws_anew_in_each_epoch():
    lengths = collections.defaultdict(set)
    iterator = batches(4, caption_odds={"descriptive": 1.0, "original": 1.0}, caption_dropout=0.0)
    for batch in take(iterator, 30):
        for ids, clips, modality in zip(batch["segment_ids"], batch["clip"], batch["modality"]):
            for segment in range(1, ids.max() + 1):
                lengths[clips[ids == segment][0]].add(int((modality[ids == segment] == 1).sum()))
    assert all(each == {2, 4} for each in lengths.values())


# -- batches of the VAE


@pytest.fixture(scope="module")
def dataset(tiny_dataset):
    return ClipDataset(tiny_dataset / "dataset")


POLICY = SizePolicy(max_frames=5, grid=(4, 8, 8))


def stage(**fields):
    return VAEStage(**{"policy": POLICY, "batch": 4, "max_buckets": 2, "images": 0.25} | fields)


def source(dataset, seed=0, **fields):
    return VAEBatches(dataset, stage(**fields), seed)


def test_windows_cover_every_clip(dataset):
    windows = all_windows(dataset, POLICY)
    assert {window.record for window in windows} == set(range(len(dataset)))
    assert all((window.frames - 1) % 4 == 0 and window.height % 8 == 0 and window.width % 8 == 0 for window in windows)
    nine = int(np.flatnonzero(dataset.sizes[:, 0] == 9)[0])
    assert [(window.start, window.frames) for window in windows if window.record == nine] == [(0.0, 5), (0.5, 5)]


def test_a_window_that_is_too_short_holds_its_last_frame(dataset):
    windows = all_windows(dataset, POLICY)
    still = next(window for window in windows if window.frames == 1)
    pixels = read_window(dataset, still, POLICY.fps, frames=5)
    assert pixels.shape == (5, still.height, still.width, 3) and (pixels == pixels[:1]).all()
    video = next(window for window in windows if window.frames == 5)
    whole = read_window(dataset, video, POLICY.fps)
    longer = read_window(dataset, video, POLICY.fps, frames=8)
    assert (longer[:5] == whole).all() and (longer[5:] == whole[-1]).all()


@pytest.mark.parametrize("most", [1, 2, 4])
def test_vae_batches_hold_windows_of_one_bucket_and_all_of_them_in_time(dataset, most):
    batch_of = source(dataset, max_buckets=most)
    shapes, seen = collections.Counter(), set()
    for n in range(60):
        pixels = batch_of(n)["pixels"]
        assert pixels.dtype == np.uint8 and len(pixels) % 4 == 0
        shapes[pixels.shape] += 1
        seen |= set(batch_of(n)["clip"].tolist())
    assert {shape[1:4] for shape in shapes} == set(batch_of.buckets)  # so many are compiled
    assert sum(shape[1] > 1 for shape in shapes) <= most and sum(shape[1] == 1 for shape in shapes) <= most
    assert seen == set(range(len(batch_of.windows)))
    budget = max(tokens((t, h, w), POLICY.grid) * n for n, t, h, w, _ in shapes)
    assert all(budget / 2 < tokens((t, h, w), POLICY.grid) * n <= budget for n, t, h, w, _ in shapes)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_read_their_clips_of_the_same_vae_batches(dataset, count):
    whole = source(dataset)
    parts = [
        VAEBatches(dataset, stage(), 0, mine=lambda rows, i=i: range(rows * i // count, rows * (i + 1) // count)) for i in range(count)
    ]
    for n in range(6):
        found = [part(n) for part in parts]
        for name in ("pixels", "clip", "row"):
            np.testing.assert_array_equal(np.concatenate([each[name] for each in found]), whole(n)[name])


def test_a_window_that_cannot_be_read_gives_way_to_the_next_of_its_bucket(dataset, monkeypatch):
    plain = source(dataset)
    broken = int(plain(0)["clip"][1])
    record = plain.windows[broken].record

    def read(data, window, fps, frames):
        if window.record == record:
            raise OSError("no such block")
        return read_window(data, window, fps, frames)

    monkeypatch.setattr("videodit.data.pipeline.read_window", read)
    bad = BadRecords(share=1.0)
    found, wanted = VAEBatches(dataset, stage(), 0, bad=bad)(0), plain(0)
    assert broken not in found["clip"] and (found["clip"] == wanted["clip"]).sum() >= len(wanted["clip"]) - (wanted["clip"] == broken).sum()
    assert bad.last.startswith(dataset.keys[record])


@pytest.mark.parametrize("point", [0, 1, 7])
def test_vae_batches_go_on_from_a_saved_position(dataset, point):
    iterator = vae_batches(source(dataset), threads=2)
    take(iterator, point)
    state = json.dumps(iterator.get_state())
    wanted = take(iterator, 4)
    again = vae_batches(source(dataset), threads=2)
    again.set_state(json.loads(state))
    assert_same(take(again, 4), wanted)
    assert_same([source(dataset)(point + n) for n in range(4)], wanted)


def test_cached_windows_are_decoded_once_and_change_nothing(dataset, monkeypatch):
    decoded = collections.Counter()

    def counted(data, window, fps, frames):
        decoded[window] += 1
        return read_window(data, window, fps, frames)

    monkeypatch.setattr("videodit.data.pipeline.read_window", counted)
    plain = source(dataset)
    wanted = [plain(n) for n in range(30)]
    largest = max(each["pixels"][0].nbytes for each in wanted)
    for room, most in ((10**9, 1), (3 * largest, max(decoded.values()))):
        decoded.clear()
        cached = VAEBatches(dataset, stage(), 0, cache_bytes=room)
        assert_same([cached(n) for n in range(30)], wanted)
        assert max(decoded.values()) <= most
    assert 3 <= sum(count == 1 for count in decoded.values()) < len(decoded)  # what fitted was kept


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_so_many_of_the_batches_are_images_and_stills_are_in_no_others(dataset, share):
    batch_of, stills = source(dataset, images=share), set(np.flatnonzero(dataset.sizes[:, 0] == 1).tolist())
    images, records = [], set()
    for n in range(40):
        batch = batch_of(n)
        images.append(batch["pixels"].shape[1] == 1)
        found = {batch_of.windows[i].record for i in batch["clip"]}
        assert images[-1] or not found & stills
        records |= found if images[-1] else set()
    assert sum(images) == round(40 * share) and all(abs(sum(images[: n + 1]) - share * (n + 1)) < 1 for n in range(40))
    assert share < 0.6 or records == set(range(len(dataset)))  # videos give frames of theirs


def test_where_nothing_moves_all_batches_are_images(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "sizes", np.minimum(dataset.sizes, [1, 99, 99]))
    assert {source(dataset, images=0.0)(n)["pixels"].shape[1] for n in range(4)} == {1}


def test_an_image_is_a_frame_of_its_video(dataset):
    windows = all_windows(dataset, POLICY)
    for image, window in zip(all_images(dataset, POLICY), windows, strict=True):
        assert (image.record, image.frames) == (window.record, 1)
        if image.height == window.height:
            middle = read_window(dataset, window, POLICY.fps)[window.frames // 2]
            np.testing.assert_array_equal(read_window(dataset, image, POLICY.fps)[0], middle)


def staged(dataset, steps=(0, 3, 4)):
    stages = [stage(step=step, batch=2 + number, images=0.5 * number) for number, step in enumerate(steps)]
    return StagedBatches(stages, [VAEBatches(dataset, each, number, cache_bytes=10**8) for number, each in enumerate(stages)])


def test_each_stage_begins_at_its_step(dataset):
    parts = [VAEBatches(dataset, stage(batch=2 + number, images=0.5 * number), number) for number in range(3)]
    assert_same([staged(dataset)(n) for n in range(7)], [parts[0](n) for n in range(3)] + [parts[1](0)] + [parts[2](n) for n in range(3)])


@pytest.mark.parametrize("point", [1, 2, 3, 4, 5])
def test_staged_batches_go_on_across_a_border(dataset, point):
    iterator = vae_batches(staged(dataset), threads=2)
    wanted = take(iterator, 8)
    iterator = vae_batches(staged(dataset), threads=2)
    take(iterator, point)
    state = json.dumps(iterator.get_state())
    again = vae_batches(staged(dataset), threads=2)
    again.set_state(json.loads(state))
    assert_same(take(again, 8 - point), wanted[point:])


@pytest.mark.parametrize("wrong", [{"step": -1}, {"batch": 0}, {"images": 1.5}])
def test_a_stage_that_cannot_be_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*{next(iter(wrong.values()))}"):
        VAEStage(**wrong)

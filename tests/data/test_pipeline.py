"""The pipelines: endless, a pure function of the seed, and able to go on from any point; no clip is lost or seen twice."""

import collections
import json

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.dataset import ClipDataset
from videodit.data.pipeline import PackingConfig, ToTokens, VAEBatches, all_windows, packed_batches, read_window, vae_batches
from videodit.data.sizes import SizePolicy

CAPTIONS = {"original": "short", "descriptive": "a long one"}


class Latents:
    """Stands for a LatentDataset: clips of many sizes, clip i made of numbers i."""

    def __init__(self, count, captions=None):
        random = np.random.default_rng(0)
        self.sizes = np.stack([random.integers(1, 4, count), random.integers(2, 6, count), random.integers(2, 6, count)], axis=-1).astype(
            np.int32
        )
        self.captions = captions or CAPTIONS

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        return {"clip": i, "key": str(i), "latents": np.full((*self.sizes[i], 2), i, np.float32), "captions": self.captions}


def tokenize(text, most):
    """A begin token, then a token a word that tells the words apart."""
    return np.asarray([2, *[3 + len(word) for word in text.split()]][:most], np.int32)


def batches(count=20, seed=0, captions=None, **changes):
    config = PackingConfig(**({"length": 96, "rows": 2, "bins": 4, "max_text_tokens": 8} | changes))
    return packed_batches(Latents(count, captions), config, (1, 1, 1), tokenize, seed, threads=2)


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


def test_every_clip_comes_once_an_epoch_and_whole():
    iterator, latents, counts = batches(), Latents(20), collections.Counter()
    for _ in range(12):
        # Rows are filled `bins` at a time: after as many rows as that, all clips drawn so far have been given out.
        for batch in take(iterator, 2):
            counts.update(clips_of(batch))
            for ids, clips, modality in zip(batch["segment_ids"], batch["clip"], batch["modality"]):
                for segment in range(1, ids.max() + 1):
                    inside = ids == segment
                    assert (modality[inside] == 2).sum() == latents.sizes[clips[inside][0]].prod()
        epochs = sum(counts.values()) // 20
        assert {counts[clip] for clip in range(20)} <= {epochs, epochs + 1}
    assert epochs >= 3


def test_patches_are_those_of_their_own_clip():
    for batch in take(batches(), 3):
        is_patch = batch["modality"] == 2
        np.testing.assert_array_equal(batch["patches"][is_patch], np.repeat(batch["clip"][is_patch][:, None], 2, axis=1))


def test_each_epoch_has_an_order_of_its_own():
    # With one row at a time, clips come in the order in which they are drawn.
    iterator, sequence = batches(rows=1, bins=1), []
    while len(sequence) < 60:
        sequence += clips_of(next(iterator))
    epochs = [tuple(sequence[start : start + 20]) for start in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs) and len(set(epochs)) == 3


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


def test_a_clip_that_no_row_can_hold_is_an_error_that_says_how_long_rows_must_be():
    longest = int(Latents(20).sizes.prod(axis=1).max())
    with pytest.raises(
        UserError, match=f"packing.length={longest + 7} cannot hold the longest clip with its caption: {longest + 8} tokens"
    ):
        batches(length=longest + 7)
    next(batches(length=longest + 8))


def test_rows_are_nearly_full_of_real_tokens():
    share = np.mean([(batch["segment_ids"] > 0).mean() for batch in take(batches(200, rows=4, bins=32, length=160), 16)])
    assert share > 0.93


# -- captions


def draws(count=4000, captions=None, **changes):
    transform = ToTokens(PackingConfig(**changes), (1, 1, 1), lambda text, most: np.asarray([2, *text.encode()][:most]))
    latents = Latents(1, captions)
    random = np.random.default_rng(0)
    found = (transform.random_map(latents[0], random) for _ in range(count))
    texts = collections.Counter(bytes(each["text_ids"][each["modality"] == 1][1:].tolist()).decode() for each in found)
    return {text: number / count for text, number in texts.items()}


def test_captions_are_drawn_by_their_odds_and_dropped_by_theirs():
    shares = draws(caption_odds={"descriptive": 3.0, "original": 1.0}, caption_dropout=0.2)
    assert shares == {"a long one": pytest.approx(0.6, abs=0.03), "short": pytest.approx(0.2, abs=0.03), "": pytest.approx(0.2, abs=0.03)}


def test_a_kind_that_a_clip_lacks_leaves_its_odds_to_the_others():
    assert draws(
        captions={"original": "short", "descriptive": ""}, caption_odds={"descriptive": 1.0, "original": 0.01}, caption_dropout=0.0
    ) == {"short": 1.0}
    assert draws(captions={"original": ""}, caption_dropout=0.0) == {"": 1.0}
    assert draws(caption_odds={"descriptive": 0.0, "original": 1.0}, caption_dropout=0.0) == {"short": 1.0}


def test_a_long_caption_is_cut():
    assert list(draws(10, caption_odds={"descriptive": 1.0}, caption_dropout=0.0, max_text_tokens=5)) == ["a lo"]


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


def source(dataset, seed=0, buckets=2):
    return VAEBatches(dataset, POLICY, batch_size=4, max_buckets=buckets, seed=seed)


def test_windows_cover_every_clip(dataset):
    windows = all_windows(dataset, POLICY)
    assert {window.record for window in windows} == set(range(len(dataset)))
    assert all((window.frames - 1) % 4 == 0 and window.height % 8 == 0 and window.width % 8 == 0 for window in windows)
    nine = int(np.flatnonzero(dataset.sizes[:, 0] == 9)[0])
    assert [(window.start, window.frames) for window in windows if window.record == nine] == [(0.0, 5)]  # four are too few to move


def test_a_window_that_is_too_short_holds_its_last_frame(dataset):
    windows = all_windows(dataset, POLICY)
    still = next(window for window in windows if window.frames == 1)
    pixels = read_window(dataset, still, POLICY.fps, frames=5)
    assert pixels.shape == (5, still.height, still.width, 3) and (pixels == pixels[:1]).all()
    video = next(window for window in windows if window.frames == 5)
    whole = read_window(dataset, video, POLICY.fps)
    longer = read_window(dataset, video, POLICY.fps, frames=8)
    assert (longer[:5] == whole).all() and (longer[5:] == whole[-1]).all()


def test_vae_batches_hold_windows_of_one_shape_and_all_of_them_in_time(dataset):
    batch_of = source(dataset)
    shapes, seen = collections.Counter(), set()
    for n in range(40):
        batch = batch_of(n)
        assert batch["pixels"].dtype == np.uint8 and batch["pixels"].shape[:2] == (4, 5)
        shapes[batch["pixels"].shape[2:4]] += 1
        seen |= set(batch["clip"].tolist())
    assert set(shapes) == set(batch_of.buckets) and len(shapes) == 2
    assert seen == set(range(len(batch_of.windows)))


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
        cached = VAEBatches(dataset, POLICY, batch_size=4, max_buckets=2, seed=0, cache_bytes=room)
        assert_same([cached(n) for n in range(30)], wanted)
        assert max(decoded.values()) <= most
    assert 3 <= sum(count == 1 for count in decoded.values()) < len(decoded)  # what fitted was kept

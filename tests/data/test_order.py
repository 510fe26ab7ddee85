"""The order of rows: a pure function of seed and step, the same for any number of processes and across any checkpoint; nothing is lost."""

import collections
import json

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.curriculum import MixtureConfig, Point, SourceConfig
from videodit.data.order import PackingConfig, RowOrder, Sizes, TextSizes

TEXT = TextSizes(empty=(1,), limits=(8,))


def sizes(count, name="latents", seed=0, most=60):
    random = np.random.default_rng(seed)
    stills = random.random(count) < 0.4
    return Sizes(
        name=name,
        patches=np.where(stills, random.integers(4, 20, count), random.integers(12, most, count)),
        stills=stills,
        text={"original": random.integers(0, 9, (count, 1)), "descriptive": random.integers(5, 12, (count, 1))},
    )


def order(count=200, seed=0, mine=None, mixture=None, sources=None, **packing):
    config = PackingConfig(**({"length": 96, "rows": 8, "bins": 32, "max_text_tokens": 8} | packing))
    return RowOrder(sources or [sizes(count)], mixture or MixtureConfig(), config, text=TEXT, seed=seed, mine=mine)


def take(iterator, count):
    return [next(iterator).rows for _ in range(count)]


def samples(steps):
    return [sample for rows in steps for row in rows for sample in row]


# -- the order


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_thousand_batches_are_the_same_for_any_number_of_processes_and_across_ten_checkpoints(processes):
    whole, found = take(iter(order()), 1000), []
    state = None
    for part in range(10):
        # At every checkpoint another number of processes goes on, each with iterators of its own that hold the saved position.
        count = (processes, 1, 2, 4)[part % 4]
        iterators = [iter(order(mine=range(8 * index // count, 8 * (index + 1) // count))) for index in range(count)]
        for iterator in iterators:
            if state:
                iterator.set_state(json.loads(state))
        found += [sum(rows, ()) for rows in zip(*(take(iterator, 100) for iterator in iterators))]
        states = {json.dumps(iterator.get_state()) for iterator in iterators}
        (state,) = states  # every process saves the same
    assert found == whole


def test_rows_may_be_any_and_come_as_asked():
    whole = take(iter(order()), 6)
    assert take(iter(order(mine=[5, 0])), 6) == [(rows[5], rows[0]) for rows in whole]


def test_another_seed_is_another_order():
    assert take(iter(order(seed=1)), 3) == take(iter(order(seed=1)), 3) != take(iter(order(seed=2)), 3)


def test_the_position_stays_small():
    iterator, longest = iter(order(bins=96)), 0
    for _ in range(300):
        next(iterator)
        longest = max(longest, len(json.dumps(iterator.get_state())))
    assert longest < 2000


def test_every_record_comes_once_an_epoch_and_none_waits_for_long():
    iterator, counts, group = iter(order()), collections.Counter(), 4  # steps packed together
    for _ in range(60):
        counts.update(sample.record for sample in samples(take(iterator, group)))
        # What is drawn is given out, but for the few that were left over.
        waiting = len(iterator.get_state()["group"]["waiting"])
        epochs = sum(counts.values()) // 200
        missing = sum(max(0, epochs - counts[record]) for record in range(200))
        assert missing <= waiting + 60 and max(counts.values()) <= epochs + 2
    assert epochs > 10


def test_a_sample_that_was_left_over_comes_in_the_next_group():
    o, drawn, waiting = order(), [0], []
    for group in range(20):
        before = {tuple(each) for each in waiting}
        rows, drawn, waiting = o.plan(4 * group, drawn, waiting)
        assert not before & {tuple(each) for each in waiting}


def test_epochs_are_shuffled_anew():
    source = order().samples
    epochs = [[source.sample(0, 200 * epoch + i).record for i in range(200)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(200)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(200))


def test_rows_hold_no_more_than_they_can_and_are_nearly_full():
    found = [sum(sample.tokens for sample in row) for rows in take(iter(order(2000, bins=96)), 120) for row in rows]
    assert max(found) <= 96 and min(found) > 0 and np.mean(found) / 96 > 0.98


def test_tokens_are_those_of_patches_and_caption():
    source = sizes(200)
    for sample in samples(take(iter(order()), 40)):
        text = source.text[sample.kind][sample.record, 0] if sample.kind else 1
        assert sample.tokens == source.patches[sample.record] + min(text, 8) and text > 0


def test_rows_of_another_shape_go_on_with_the_same_samples():
    iterator = iter(order())
    take(iterator, 10)
    again = iter(order(rows=4, bins=16))
    again.set_state(json.loads(json.dumps(iterator.get_state())))
    state = again.get_state()
    assert state["step"] == 10 and state["group"]["drawn"] == iterator.get_state()["group"]["drawn"]
    assert len(next(again).rows) == 4


# -- captions


def captions(count=4000, text=None, **packing):
    text = {kind: np.array(counts)[:, None] for kind, counts in (text or {"original": [3], "descriptive": [5]}).items()}
    source = Sizes(name="latents", patches=np.array([4]), stills=np.array([True]), text=text)
    drawn = order(sources=[source], **packing).samples
    found = collections.Counter(drawn.sample(0, number).kind for number in range(count))
    return {kind: number / count for kind, number in found.items()}


def test_captions_are_drawn_by_their_odds_and_dropped_by_theirs():
    shares = captions(caption_odds={"descriptive": 3.0, "original": 1.0}, caption_dropout=0.2)
    assert shares == {kind: pytest.approx(share, abs=0.03) for kind, share in (("descriptive", 0.6), ("original", 0.2), ("", 0.2))}


def test_by_default_nineteen_of_twenty_captions_are_descriptive():
    assert captions(caption_dropout=0.0)["descriptive"] == pytest.approx(0.95, abs=0.015)


def test_a_kind_that_a_clip_lacks_leaves_its_odds_to_the_others():
    assert captions(text={"original": [3], "descriptive": [0]}, caption_dropout=0.0) == {"original": 1.0}
    assert captions(text={"original": [0], "descriptive": [0]}, caption_dropout=0.0) == {"": 1.0}
    assert captions(caption_odds={"descriptive": 0.0, "original": 1.0}, caption_dropout=0.0) == {"original": 1.0}


def test_a_kind_that_no_clip_can_have_is_named():
    with pytest.raises(UserError, match="names 'poetic', which source 'latents' does not have; expected some of original, descriptive"):
        order(caption_odds={"poetic": 1.0})


# -- rows of text


def text_of(sample, sources, text):
    """Cut text tokens of a sample, by encoder."""
    return text.cut(sources[sample.source].text[sample.kind][sample.record] if sample.kind else text.empty)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_no_row_needs_more_slots_of_text_than_there_are(seed, parts):
    random = np.random.default_rng(seed)
    count, length = int(random.integers(1, 60)), int(random.integers(48, 400))
    most = random.integers(1, 16, parts)
    text = TextSizes(empty=tuple(random.integers(1, 4, parts).tolist()), limits=tuple(random.integers(4, 12, parts).tolist()))
    captions = {kind: random.integers(0, 2, (count, 1)) * random.integers(1, most + 1, (count, parts)) for kind in ("a", "b", "never")}
    captions["never"] = captions["never"] * 100
    source = Sizes(name="latents", patches=random.integers(1, 12, count), stills=np.ones(count, bool), text=captions)
    config = PackingConfig(length=length, rows=4, bins=16, caption_odds={"a": 1.0, "b": 0.5, "never": 0.0}, caption_dropout=0.3)
    o = RowOrder([source], MixtureConfig(), config, text=text, seed=seed)
    needed = [sum(text_of(each, [source], text) for each in row) for rows in take(iter(o), 60) for row in rows]
    assert (np.max(needed, axis=0) <= o.text_slots).all()
    # The sample with the most text for its patches, again and again: what is there is nearly needed.
    every = [[text.cut(each) for each in (text.empty, *captions[kind])] for kind in ("a", "b")]
    patches = [int(source.patches.min()), *source.patches.tolist()]
    for part, slots in enumerate(o.text_slots):
        worst = max(length // (own.sum() + size) * own[part] for kind in every for own, size in zip(kind, patches))
        assert worst <= slots <= 2 * worst + 8


# -- mixtures and curricula


def mixed(**config):
    extra = (SourceConfig(name="other", path="elsewhere", weight=3.0),)
    return order(sources=[sizes(300), sizes(50, "other", seed=1)], mixture=MixtureConfig(sources=extra, **config))


def shares(steps):
    found = samples(steps)
    return np.mean([sample.source for sample in found]), found


def test_sources_are_mixed_by_their_weights_whatever_their_sizes():
    assert shares(take(iter(mixed()), 300))[0] == pytest.approx(0.75, abs=0.02)
    assert shares(take(iter(mixed(weight=0.0)), 10))[0] == 1


def test_a_curriculum_moves_weights_images_and_sizes_with_the_step_alone():
    curriculum = (
        Point(step=0, weights={"other": 0.0}, images=0.9, max_tokens=16),
        Point(step=200, weights={"other": 1.0}, images=0.1, max_tokens=60),
    )
    o = mixed(curriculum=curriculum)
    steps = take(iter(o), 400)
    stills = [sizes(300).stills, sizes(50, "other", seed=1).stills]
    patches = [sizes(300).patches, sizes(50, "other", seed=1).patches]

    def measure(part):
        other, found = shares(part)
        return (
            other,
            np.mean([stills[each.source][each.record] for each in found]),
            max(patches[each.source][each.record] for each in found),
        )

    early, late = measure(steps[:4]), measure(steps[240:])
    assert early[0] == 0 and early[1] > 0.75 and early[2] <= 16
    assert late[0] == pytest.approx(0.5, abs=0.05) and late[1] == pytest.approx(0.1, abs=0.03) and late[2] > 50
    middle = measure(steps[90:110])[0]
    assert 0.2 < middle < 0.45
    iterator = iter(o)
    take(iterator, 130)
    again = iter(mixed(curriculum=curriculum))
    again.set_state(json.loads(json.dumps(iterator.get_state())))
    assert take(again, 100) == steps[130:230]


def test_a_position_of_another_mixture_is_refused():
    with pytest.raises(UserError, match="position is of 1 sources .* the config has 2"):
        iter(mixed()).set_state(iter(order()).get_state())


# -- what cannot be


def test_a_clip_that_no_row_can_hold_is_an_error_that_says_how_long_rows_must_be():
    source = sizes(200)
    longest = int((source.patches + np.minimum(np.maximum(source.text["descriptive"], source.text["original"]), 8)[:, 0]).max())
    with pytest.raises(UserError, match=f"packing.length={longest - 1} cannot hold the longest clip with its caption: {longest} tokens"):
        order(length=longest - 1)
    take(iter(order(length=longest)), 5)


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ((Point(step=0, max_tokens=3),), "max_tokens=3 leaves no clip of source 'latents': zero batches; its smallest has 4 tokens"),
        ((Point(step=0, images=0.5),), "asks for images=0.5, but source 'latents' holds no video: set images=1 or None"),
    ],
)
def test_zero_batches_is_an_error_that_names_the_limit(curriculum, message):
    text = {"original": np.array([[3], [3]]), "descriptive": np.array([[0], [0]])}
    source = Sizes(name="latents", patches=np.array([4, 9]), stills=np.array([True, True]), text=text)
    with pytest.raises(UserError, match=message):
        order(sources=[source], mixture=MixtureConfig(curriculum=curriculum))


def test_a_source_of_nothing_is_named():
    with pytest.raises(UserError, match="source 'latents' holds no latents: zero batches"):
        order(0)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"rows": 0}, {"bins": 0}, {"bins": 12}, {"caption_dropout": 1.5}])
def test_a_packing_that_cannot_be_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        order(**wrong)

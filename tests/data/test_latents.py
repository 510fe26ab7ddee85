"""The data set of latents gives back what was written, at its own size, in any process."""

import json
import pickle

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import latents, shards

SIZES = [(3, 2, 3), (1, 3, 2), (2, 2, 2)]


def records():
    random = np.random.default_rng(0)
    return [
        {
            "key": f"clip-{i}@0",
            "latents": random.normal(size=(*size, 4)).astype("<f4").tobytes(),
            "frames": size[0],
            "height": size[1],
            "width": size[2],
            "captions": {"original": f"o {i}", "descriptive": "größer"},
            "original_tokens": 3 + i,
            "descriptive_tokens": 7,
        }
        for i, size in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("latents")
    shards.write_shards(
        directory,
        name=latents.NAME,
        features=latents.features(),
        index=latents.INDEX,
        splits={"train": [lambda: records()[:2], lambda: records()[2:]]},
    )
    (directory / latents.CONTENTS).write_text(json.dumps({"channels": 4, "vae_fingerprint": "abc", "dataset": "def", "stored": True}))
    return directory


def test_records_come_back_in_order_at_their_own_size(directory):
    dataset = latents.LatentDataset(directory)
    assert len(dataset) == 3 and dataset.sizes.tolist() == [list(size) for size in SIZES]
    assert {kind: tokens.tolist() for kind, tokens in dataset.text_tokens.items()} == {"original": [3, 4, 5], "descriptive": [7] * 3}
    assert [dataset.key_of(i) for i in range(3)] == ["clip-0@0", "clip-1@0", "clip-2@0"]
    assert (dataset.channels, dataset.vae_fingerprint) == (4, "abc")
    for i, wanted in enumerate(records()):
        found = dataset[i]
        assert found["latents"].shape == (*SIZES[i], 4) and found["latents"].tobytes() == wanted["latents"]
        assert (found["clip"], found["key"], found["captions"]) == (i, wanted["key"], wanted["captions"])


def test_it_pickles_and_reopens(directory):
    dataset = latents.LatentDataset(directory)
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[1]["latents"], dataset[1]["latents"])
    assert repr(again) == repr(dataset)


def test_unfinished_latents_say_what_to_run(tmp_path):
    with pytest.raises(UserError, match="run `videodit encode` first"):
        latents.LatentDataset(tmp_path)

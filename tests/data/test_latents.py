"""The data set of latents gives back what was written, at its own size, in any process."""

import json
import pickle
import shutil

import ml_dtypes
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data import latents, shards

SIZES = [(3, 2, 3), (1, 3, 2), (2, 2, 2)]


EMPTY = np.ones((1, 4), ml_dtypes.bfloat16), np.zeros((2, 3), ml_dtypes.bfloat16)


def part(seed, tokens, channels):
    return np.random.default_rng(seed).normal(size=(tokens, channels)).astype(ml_dtypes.bfloat16).tobytes()


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
            "text": {kind: {"0": part(i, 2 + i, 4), "1": part(i, 1, 3)} for kind in latents.KINDS},
            "original_tokens": [2 + i, 1],
            "descriptive_tokens": [7, 9],
        }
        for i, size in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("latents")
    shards.write_shards(
        directory,
        name=latents.NAME,
        features=latents.features(2),
        index=latents.INDEX,
        splits={"train": [lambda: records()[:2], lambda: records()[2:]]},
    )
    contents = {"channels": 4, "vae_fingerprint": "abc", "dataset": "def", "stored": True, "policy": {"fps": 8.0}}
    contents["text"] = {"encoders": [{"width": 4}, {"width": 3}]}
    (directory / latents.CONTENTS).write_text(json.dumps(contents))
    (directory / latents.EMPTY_TEXT).write_bytes(latents.empty_bytes(EMPTY))
    return directory


def test_records_come_back_in_order_at_their_own_size(directory):
    dataset = latents.LatentDataset(directory)
    assert len(dataset) == 3 and dataset.sizes.tolist() == [list(size) for size in SIZES]
    tokens = {"original": [[2, 1], [3, 1], [4, 1]], "descriptive": [[7, 9]] * 3}
    assert {kind: found.tolist() for kind, found in dataset.text_tokens.items()} == tokens
    assert [dataset.key_of(i) for i in range(3)] == ["clip-0@0", "clip-1@0", "clip-2@0"]
    assert (dataset.channels, dataset.vae_fingerprint, dataset.fps) == (4, "abc", 8.0)
    for i, wanted in enumerate(records()):
        found = dataset[i]
        assert found["latents"].shape == (*SIZES[i], 4) and found["latents"].tobytes() == wanted["latents"]
        assert [each.shape for each in found["text"]["original"]] == [(2 + i, 4), (1, 3)]
        assert [each.tobytes() for each in found["text"]["original"]] == [wanted["text"]["original"][name] for name in "01"]
        for one, other in zip(found["text"][""], EMPTY):
            np.testing.assert_array_equal(one, other)
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


def test_latents_of_another_form_say_what_to_run(directory, tmp_path):
    older = shutil.copytree(directory, tmp_path / "older")
    contents = json.loads((older / latents.CONTENTS).read_text())
    del contents["policy"]
    (older / latents.CONTENTS).write_text(json.dumps(contents))
    with pytest.raises(UserError, match="latents of another form, without 'policy': encode into another directory"):
        latents.LatentDataset(older)

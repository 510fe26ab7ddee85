"""Latents are those of each window alone, the same bytes whenever they are made, and never of two VAEs."""

import concurrent.futures
import json
import pathlib
import shutil

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.dataset import ClipDataset
from videodit.data.latents import CONTENTS, LatentDataset
from videodit.data.pipeline import Window, all_windows, read_window
from videodit.data.sizes import fit, tokens
from videodit.generation.sample import load_generator
from videodit.models.text.byte_words import ByteWords
from videodit.models.text.source import TOKENIZER
from videodit.models.text.tokenizer import Tokenizer
from videodit.training.encode import encode, groups, in_few_sizes
from videodit.training.loop import train
from videodit.training.restore import load_vae

TRAINED = {"tokenizer": "trained"}
GOLDEN = pathlib.Path(__file__).parents[1] / "models" / "vae" / "golden"


@pytest.fixture(scope="module")
def config(tiny, tiny_latents):
    """The job's config, with every path its own, so that any workdir will do."""
    return lambda text=None, **latents: tiny(
        data={"path": str(tiny_latents / "dataset")},
        text=text or {},
        latents={"path": str(tiny_latents / "latents"), "vae": str(tiny_latents / "vae")} | latents,
    )


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """Latents with a trained tokenizer."""
    directory = tmp_path_factory.mktemp("trained") / "latents"
    encode(config(TRAINED, path=str(directory)), directory.parent)
    return directory


@pytest.fixture(scope="module")
def other_vae(tiny_latents, tmp_path_factory):
    """The same VAE, half trained."""
    directory = tmp_path_factory.mktemp("other") / "vae"
    shutil.copytree(tiny_latents / "vae", directory)
    newest = max((path for path in (directory / "checkpoints").iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    return directory


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_every_window_is_there_with_its_captions_and_size(config, tiny_latents):
    dataset, latents = ClipDataset(tiny_latents / "dataset"), LatentDataset(tiny_latents / "latents")
    windows = {f"{dataset.keys[window.record]}@{window.start:g}": window for window in all_windows(dataset, config().latents.policy)}
    found = [latents[i] for i in range(len(latents))]
    assert sorted(each["key"] for each in found) == sorted(windows)
    for each, size in zip(found, latents.sizes.tolist()):
        window = windows[each["key"]]
        assert size == [1 + (window.frames - 1) // 4, window.height // 8, window.width // 8]
        assert each["captions"] == dataset[window.record]["captions"] and each["captions"]["original"]
        for kind, text in each["captions"].items():  # the order of training is planned from these
            assert latents.text_tokens[kind][each["clip"]] == (len(ByteWords().encode(text, 10**6)) if text else 0)


def test_a_latent_is_what_the_vae_makes_of_its_window_alone(config, tiny_latents):
    dataset, latents, vae = ClipDataset(tiny_latents / "dataset"), LatentDataset(tiny_latents / "latents"), load_vae(tiny_latents / "vae")
    by_key = {latents[i]["key"]: latents[i]["latents"] for i in range(len(latents))}
    by_length = {}
    for window in all_windows(dataset, config().latents.policy):
        by_length.setdefault(window.frames, window)
    assert set(by_length) == {1, 5, 9}
    for window in by_length.values():
        alone = vae.encode(read_window(dataset, window, config().latents.policy.fps)[None])[0]
        np.testing.assert_allclose(by_key[f"{dataset.keys[window.record]}@{window.start:g}"], alone, atol=1e-4)


def test_a_trained_tokenizer_knows_the_captions(trained):
    tokenizer, latents = Tokenizer((trained / TOKENIZER).read_bytes()), LatentDataset(trained)
    for i in range(8):
        caption = latents[i]["captions"]["original"]
        assert len(tokenizer.encode(caption, 99)) == latents.text_tokens["original"][i] < len(caption)


def test_what_a_kill_took_is_written_again_the_same(config, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "latents")
    wanted = files(tmp_path / "latents")
    shard = sorted(path for path in (tmp_path / "latents").iterdir() if ".array_record-" in path.name)[1]
    for path in (shard, tmp_path / "latents" / TOKENIZER, tmp_path / "latents" / CONTENTS, tmp_path / "latents" / "dataset_info.json"):
        path.unlink()
    encode(config(TRAINED, path=str(tmp_path / "latents")), tmp_path)
    assert files(tmp_path / "latents") == wanted


def test_processes_share_the_shards_and_end_with_the_same_latents(config, trained, tmp_path):
    at = config(TRAINED, path=str(tmp_path / "latents"))
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        # The last first: the others must wait for what the first makes.
        for done in [pool.submit(encode, at, tmp_path, (index, 3)) for index in (2, 1, 0)]:
            done.result(timeout=100)
    assert files(tmp_path / "latents") == files(trained)


def test_another_latents_tokenizer_can_be_taken(config, trained, tmp_path):
    encode(config({"tokenizer": "trained", "vocabulary": 300}, path=str(tmp_path / "latents"), tokenizer=str(trained)), tmp_path)
    assert (tmp_path / "latents" / TOKENIZER).read_bytes() == (trained / TOKENIZER).read_bytes()
    with pytest.raises(UserError, match="expected the directory of an `encode`"):
        encode(config(TRAINED, path=str(tmp_path / "more"), tokenizer=str(tmp_path)), tmp_path)
    with pytest.raises(UserError, match="expected text.tokenizer='trained'"):
        config(tokenizer=str(trained))


def test_a_public_tokenizer_is_taken_as_it_is(config, trained, tmp_path):
    encode(config({"tokenizer": str(trained / TOKENIZER)}, path=str(tmp_path / "latents")), tmp_path)
    assert (tmp_path / "latents" / TOKENIZER).read_bytes() == (trained / TOKENIZER).read_bytes()
    found, wanted = LatentDataset(tmp_path / "latents"), LatentDataset(trained)
    np.testing.assert_array_equal(found.text_tokens["original"], wanted.text_tokens["original"])
    with pytest.raises(UserError, match="expected 'bytes', 'trained' or the file of a sentencepiece model"):
        encode(config({"tokenizer": "byte"}, path=str(tmp_path / "more")), tmp_path)


def test_latents_with_another_text_than_the_config_are_refused(config, trained, tmp_path):
    with pytest.raises(UserError, match="text="):
        encode(config(TRAINED), tmp_path)
    for asked, made in ((config(TRAINED), "bytes"), (config(path=str(trained)), "trained")):
        for use in (load_generator, train):
            with pytest.raises(UserError, match=f"was encoded with text from tokenizer '{made}', and config text asks for tokenizer"):
                use(asked, tmp_path)


def test_few_sizes_are_compiled_however_many_the_clips_have(config):
    settings = config(max_sizes=3, policy={"max_frames": 9, "grid": (4, 8, 8), "max_tokens": 60}).latents
    random, windows = np.random.default_rng(0), []
    for record in range(200):
        clip = (int(random.choice([1, 5, 9])), int(random.integers(8, 90)), int(random.integers(8, 90)))
        size = fit(*clip, 8.0, settings.policy)
        windows.append(Window(record=record, start=0.0, frames=size.frames, height=size.height, width=size.width))
    few = in_few_sizes(windows, settings)
    assert len({(window.height, window.width) for window in windows}) > 20 and len({(window.height, window.width) for window in few}) <= 3
    assert len(groups(few, 4)) <= 9  # one, two and three latent frames
    for window, wanted in zip(few, windows):
        assert (window.record, window.frames) == (wanted.record, wanted.frames)
        assert tokens(window.size, settings.policy.grid) <= settings.policy.max_tokens
    assert in_few_sizes(windows[:3], settings) == windows[:3]


def test_finished_latents_are_left_alone(config, tiny_latents, tmp_path):
    times = {path: path.stat().st_mtime_ns for path in (tiny_latents / "latents").rglob("*.array_record*")}
    encode(config(), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_latents_of_another_vae_or_policy_are_refused(config, other_vae, tmp_path):
    with pytest.raises(UserError, match="vae_fingerprint="):
        encode(config(vae=str(other_vae)), tmp_path)
    with pytest.raises(UserError, match="policy="):
        encode(config(policy={"max_frames": 5}), tmp_path)


def test_nothing_is_trained_or_sampled_on_latents_of_another_vae(config, other_vae, tmp_path):
    with pytest.raises(UserError, match="was encoded by VAE"):
        load_generator(config(vae=str(other_vae)), tmp_path)
    with pytest.raises(UserError, match="was encoded by VAE"):
        train(config(vae=str(other_vae)), tmp_path)


def test_an_unfinished_run_before_it_is_named(config, tmp_path):
    with pytest.raises(UserError, match="is not a workdir"):
        encode(config(vae=str(tmp_path / "nothing")), tmp_path)


def test_public_weights_encode_with_their_own_channels(tiny, config, tiny_latents, tmp_path):
    encode(config(path=str(tmp_path / "latents"), vae=str(GOLDEN / "diffusers_2.1")), tmp_path)
    latents, dataset = LatentDataset(tmp_path / "latents"), ClipDataset(tiny_latents / "dataset")
    public = load_vae(GOLDEN / "diffusers_2.1")
    assert latents.channels == 4 != tiny("dit").vae.latent_channels
    window = max(all_windows(dataset, config().latents.policy), key=lambda window: window.frames)
    key = f"{dataset.keys[window.record]}@{window.start:g}"
    (found,) = (latents[i]["latents"] for i in range(len(latents)) if latents[i]["key"] == key)
    np.testing.assert_allclose(found, public.encode(read_window(dataset, window, config().latents.policy.fps)[None])[0], atol=1e-4)


def test_a_vae_of_another_stride_than_the_config_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(UserError, match=r"diffusers_2.2' compresses .* by \(4, 16, 16\), expected \(4, 8, 8\)"):
        encode(config(path=str(tmp_path / "latents"), vae=str(GOLDEN / "diffusers_2.2")), tmp_path)
    assert not (tmp_path / "latents").exists()


def test_contents_say_what_the_latents_are_of(tiny_latents):
    contents = json.loads((tiny_latents / "latents" / CONTENTS).read_text())
    assert contents["vae_fingerprint"] == load_vae(tiny_latents / "vae").fingerprint
    assert contents["channels"] == 6

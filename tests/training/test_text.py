"""Public encoders on the whole way: captions are encoded once, trained on from what was stored, and prompts are encoded the same."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.latents import KINDS, LatentDataset
from videodit.generation.generator import Request
from videodit.generation.sample import load_generator
from videodit.models.text.source import open_text
from videodit.training.encode import encode
from videodit.training.export import export
from videodit.training.jobs import make_job
from videodit.training.loop import train

GOLDEN = pathlib.Path(__file__).parents[1] / "models" / "text" / "golden"
TEXT = {
    "encoders": [{"path": str(GOLDEN / "umt5"), "max_tokens": 8}, {"path": str(GOLDEN / "byt5"), "max_tokens": 14}],
    "refiner": {"depth": 1, "heads": 2},
}
STEPS = {"steps": 3, "save_every": 3, "sample_every": 3, "log_every": 1}


@pytest.fixture(scope="module")
def config(tiny, tiny_latents):
    data, vae = {"path": str(tiny_latents / "dataset")}, str(tiny_latents / "vae")
    return lambda text=TEXT, **latents: tiny(data=data, text=text, latents={"vae": vae} | latents, train=STEPS)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("encoded")
    encode(config(), workdir)
    return workdir


@pytest.fixture(scope="module")
def job(config, workdir):
    train(config(), workdir)
    return workdir


def near(found, wanted):
    """Equal but for the last bit of bfloat16, which the other texts of a batch may turn."""
    np.testing.assert_allclose(np.float32(found), np.float32(wanted), rtol=2**-7, atol=1e-3)


def test_what_is_stored_is_what_the_encoders_say_of_each_caption(config, workdir):
    latents, source = LatentDataset(workdir / "latents"), open_text(config().text, workdir)
    for i in range(len(latents)):
        record = latents[i]
        captions = {kind: record["captions"][kind] for kind in KINDS}
        for kind, text in zip((*KINDS, ""), source.encode([*captions.values(), ""])):
            if kind and not captions[kind]:
                assert not latents.text_tokens[kind][i].any() and not sum(map(len, record["text"][kind]))
                continue
            assert [part.shape for part in record["text"][kind]] == [part.shape for part in text]
            for stored, computed in zip(record["text"][kind], text):
                near(stored, computed)
            if kind:
                assert latents.text_tokens[kind][i].tolist() == list(source.lengths(captions[kind]))


def test_the_log_says_how_many_captions_each_encoder_cuts(workdir):
    log = (workdir / "log.txt").read_text()
    counts = np.concatenate(list(LatentDataset(workdir / "latents").text_tokens.values()))
    for number, encoder in enumerate(TEXT["encoders"]):
        cut = int((counts[:, number] > encoder["max_tokens"]).sum())
        assert f"{cut:,} of {counts.any(axis=1).sum():,} captions are longer than the {encoder['max_tokens']} tokens of" in log


def test_a_shard_that_a_kill_took_is_written_again_the_same(config, workdir, tmp_path):
    shutil.copytree(workdir / "latents", tmp_path / "latents")
    shard = sorted((tmp_path / "latents").glob("*.array_record-*"))[1]
    wanted, place = shard.read_bytes(), config(path=str(tmp_path / "latents"))
    for path in (shard, tmp_path / "latents" / "dataset_info.json"):
        path.unlink()
    encode(place, tmp_path)
    assert shard.read_bytes() == wanted


def test_rows_hold_the_stored_embeddings_of_their_own_clips_or_of_the_empty_caption(config, workdir):
    latents, made = LatentDataset(workdir / "latents"), make_job(config(), workdir)
    slots = None
    for _ in range(4):
        batch = next(made.batches)
        slots = slots or batch["text_0"].shape[1]
        assert batch["text_0"].shape == (4, slots, 12) and batch["text_1"].shape[:2] == (4, batch["text_segment_ids"].shape[1] - slots)
        for r in range(4):
            for segment in range(1, batch["segment_ids"][r].max() + 1):
                own = batch["segment_ids"][r] == segment
                places = batch["text_place"][r, own & (batch["modality"][r] == 1)]
                parts = batch["text_0"][r, places[places < slots]], batch["text_1"][r, places[places >= slots] - slots]
                texts = latents[int(batch["clip"][r, own][0])]["text"].values()
                cut = [tuple(part[:12] for part in text) for text in texts]
                assert any(all(np.array_equal(a, b) for a, b in zip(parts, text)) for text in cut)


def test_clips_encoded_while_training_have_the_same_text(config, workdir, tmp_path):
    live = config(stored=False)
    encode(live, tmp_path)
    assert "text" not in LatentDataset(tmp_path / "latents").read(0)
    stored, made = make_job(config(), workdir).batches, make_job(live, tmp_path).batches
    for _ in range(2):
        one, other = next(stored), next(made)
        for name in ("text_place", "text_segment_ids", "clip"):
            np.testing.assert_array_equal(one[name], other[name])
        for name in ("text_0", "text_1"):
            near(one[name], other[name])


def test_it_trains_and_samples_and_hears_the_prompt(config, job):
    losses = [json.loads(line)["loss"] for line in (job / "metrics" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 3 and np.isfinite(losses).all()
    assert (job / "samples" / "3" / "grid.png").exists()
    generator = load_generator(config(), job)
    random = np.random.default_rng(0)
    generator.params["head"]["kernel"] = random.normal(size=generator.params["head"]["kernel"].shape).astype(np.float32)
    prompts = ("a red ball", "a blue cube") * (generator.rows // 2)  # a full batch is one program; two may differ in a float's last bit
    one, other, again, *_ = generator([Request(prompt=prompt, frames=5, height=16, width=16) for prompt in prompts], config().sample)
    assert one.shape == (5, 16, 16, 3) and (one == again).all() and (one != other).any()


def test_it_leaves_with_its_encoders_widths(job, tmp_path):
    export(job, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text"]["widths"] == [12, 12]


@pytest.mark.parametrize(
    "other",
    [
        TEXT | {"encoders": TEXT["encoders"][:1]},
        TEXT | {"encoders": TEXT["encoders"][::-1]},
        TEXT | {"encoders": [TEXT["encoders"][0] | {"dtype": "bfloat16"}, TEXT["encoders"][1]]},
        {"tokenizer": "bytes"},
    ],
    ids=["fewer", "turned", "dtype", "bytes"],
)
def test_another_encoder_is_refused(config, job, other, tmp_path):
    with pytest.raises(UserError, match="text="):
        encode(config(other), job)
    for use in (train, load_generator):
        with pytest.raises(UserError, match="was encoded with text from encoder"):
            use(config(other), job)

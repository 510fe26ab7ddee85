"""Every config that is shipped is one that the strict reader takes; a VAE's `smoke` runs each stage of the schedule that it stands for."""

from dataclasses import replace
import json
import math
import pathlib

import numpy as np
import pytest

from videodit.core.config import load, to_dict
from videodit.core.errors import UserError
from videodit.data.augmentation import AugmentConfig
from videodit.data.curriculum import MixtureConfig
from videodit.data.order import RowOrder, Sizes, TextSizes
from videodit.data.prepare import prepare
from videodit.data.sizes import fit, tokens, windows
from videodit.evaluation.evaluate import evaluate
from videodit.models.dit.sizes import WIDTHS
from videodit.models.text.source import open_text
from videodit.models.vae.config import Stage, VAEConfig
from videodit.training import loop
from videodit.training.config import read_experiment
from videodit.training.jobs import Job

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
VARIANTS = {
    "local": ("vae", "dit", "vae_files", "dit_files"),
    "pods": ("image_1b", "video_1b", "3b", "8b", "30b"),
    "sizes": tuple(WIDTHS),
    "vae_small": ("clips", "worlds"),
    "vae_4x8x8": ("full", "smoke"),
    "vae_4x16x16": ("full", "smoke"),
}
STAGED = ("vae_4x8x8", "vae_4x16x16")


def experiment(name, variant=""):
    return read_experiment(load(f"{EXPERIMENTS / name}.py:{variant}"))


@pytest.mark.parametrize("name", sorted(path.stem for path in EXPERIMENTS.glob("*.py")))
def test_every_config_is_read_strictly_and_says_what_it_is(name):
    for variant in VARIANTS[name]:
        read = experiment(name, variant)
        assert read_experiment(json.loads(json.dumps(to_dict(read)))) == read
    said = (EXPERIMENTS / f"{name}.py").read_text().split('"""')[1]
    assert any(command in said for command in ("videodit train", "videodit inspect", "videodit preflight", "launch/local.sh"))


def test_an_unknown_variant_of_the_main_job_is_named():
    with pytest.raises(UserError, match="local.py:fils: expected vae or dit, or vae_files or dit_files"):
        load(f"{EXPERIMENTS / 'local.py'}:fils")


def test_the_main_job_on_files_is_the_same_but_for_its_data_augmentation_and_rows():
    for model in ("vae", "dit"):
        worlds, files = experiment("local", model), experiment("local", f"{model}_files")
        assert files.data.source == "files" and all(stage.augment.on for stage in files.vae_training.stages)
        assert not any(stage.augment.on for stage in worlds.vae_training.stages)
        stages = [replace(stage, augment=AugmentConfig()) for stage in files.vae_training.stages]
        assert replace(files.vae_training, stages=tuple(stages)) == worlds.vae_training
        assert replace(files, data=worlds.data, vae_training=worlds.vae_training, packing=worlds.packing) == worlds
        step = files.packing.rows * files.packing.length / (worlds.packing.rows * worlds.packing.length)
        assert 0.8 < step < 1.25


def real_sizes(folder, config):
    """The sizes of the real clips under a config, with as many text tokens as its tokenizer makes of their captions."""
    lines = lambda name: map(json.loads, (folder / name).read_text().splitlines())
    said = {line["file"]: line["caption"] for line in lines("captions.jsonl")}
    text, policy = open_text(config.text, ""), config.latents.policy
    patches, words = [], []
    for line in lines("manifest.jsonl"):
        if line.get("decodes") != "yes":
            continue
        frames, fps = line.get("frames", 1), line.get("avg_fps") or 1.0
        size = fit(frames, line["height"], line["width"], fps, policy)
        for _, count in windows(frames, fps, policy, max_frames=size.frames):
            patches.append(tokens((count, size.height, size.width), policy.grid))
            words.append(text.lengths(said[line["file"]]) if line["file"] in said else (0,))
    none = np.zeros((len(words), 1), int)
    return Sizes(
        name="real", patches=np.array(patches), stills=np.zeros(len(patches), bool), text={"original": np.array(words), "descriptive": none}
    )


def test_rows_of_real_clips_are_full_and_their_captions_uncut(clips):
    config = experiment("local", "dit_files")
    sizes, packing = real_sizes(clips, config), config.packing
    assert len(sizes.patches) > 100 and 32 < sizes.text["original"].max() <= packing.max_text_tokens
    for every in (1, 3, 9):  # small folders too
        some = replace(
            sizes,
            patches=sizes.patches[::every],
            stills=sizes.stills[::every],
            text={kind: counts[::every] for kind, counts in sizes.text.items()},
        )
        text = TextSizes(empty=(1,), limits=(packing.max_text_tokens,))
        order = iter(RowOrder([some], MixtureConfig(), packing, text=text, seed=0))
        filled = [sum(sample.tokens for sample in row) for _ in range(96) for row in next(order).rows]
        assert sum(filled) / (len(filled) * packing.length) > 0.95


@pytest.mark.parametrize("name", STAGED)
def test_an_unknown_variant_is_named(name):
    with pytest.raises(UserError, match="variant 'smok' .* expected 'full' or 'smoke'"):
        load(f"{EXPERIMENTS / name}.py:smok")
    assert experiment(name) == experiment(name, "full")


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("variant", ["full", "smoke"])
def test_stages_grow_from_small_images_to_large_videos_with_a_discriminator(name, variant):
    read = experiment(name, variant)
    stages, loss = read.vae_training.stages, read.vae_training.loss
    assert len(stages) == 3 and stages[0].images > 0.5 > stages[-1].images > 0
    sizes = [stage.policy.max_tokens for stage in stages]
    assert sizes == sorted(set(sizes)) and stages[0].policy.max_frames < stages[-1].policy.max_frames
    assert loss.adversarial.start == stages[-1].step < read.train.steps
    assert loss.perceptual.weight > 0 and not loss.perceptual.on  # weights of LPIPS are the reader's to name
    assert read.vae.stride == ((4, 8, 8) if name == "vae_4x8x8" else (4, 16, 16))
    assert read.latents.policy == stages[-1].policy


@pytest.mark.parametrize("name", STAGED)
def test_smoke_is_the_schedule_in_small(name):
    full, smoke = experiment(name), experiment(name, "smoke")
    for large, small in zip(full.vae_training.stages, smoke.vae_training.stages, strict=True):
        assert small.step / smoke.train.steps == large.step / full.train.steps
        assert small.policy.max_tokens == large.policy.max_tokens // 64 and small.policy.max_frames == large.policy.max_frames
        assert small.images == large.images
    assert (smoke.vae.fold, smoke.vae.blocks, smoke.vae.shortcuts) == (full.vae.fold, full.vae.blocks, full.vae.shortcuts)
    assert smoke.vae.stride == full.vae.stride and smoke.vae.latent_channels == full.vae.latent_channels


@pytest.mark.parametrize("name", STAGED)
def test_smoke_runs_every_stage_and_is_evaluated(name, tmp_path, monkeypatch):
    """With a network of the same stride that compiles in seconds; its own takes minutes to compile for all these shapes."""
    config, shapes = experiment(name, "smoke"), []
    quick = VAEConfig(latent_channels=config.vae.latent_channels, fold=config.vae.stride, decoder_blocks=0, stages=(Stage(width=8),))
    config = replace(config, vae=quick)
    prepare(config.data, tmp_path / "dataset")

    def to_device(job, batch, mesh, original=Job.to_device):
        shapes.append(batch["pixels"].shape)
        return original(job, batch, mesh)

    monkeypatch.setattr(Job, "to_device", to_device)
    monkeypatch.setattr(loop, "matmul_flops_per_second", lambda: 1.0)
    loop.train(config, tmp_path)
    steps = [json.loads(line) for line in (tmp_path / "metrics" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == len(shapes) == config.train.steps
    played = [line["step"] for line in steps if "adversarial" in line]
    assert played == list(range(config.vae_training.loss.adversarial.start + 1, config.train.steps + 1))
    assert all(math.isfinite(line["loss"]) for line in steps)
    stages = config.vae_training.stages
    for stage, end in zip(stages, [*(stage.step for stage in stages[1:]), config.train.steps]):
        frames = [shape[1] for shape in shapes[stage.step : end]]
        assert max(frames) == stage.policy.max_frames and np.mean(np.equal(frames, 1)) == stage.images
    told = evaluate(config, tmp_path)["vae"]
    assert told["split"] == "held_out" and told["clips"] == 4 and math.isfinite(told["psnr_db"])
    assert (tmp_path / "evaluation" / "reconstruction.png").exists()

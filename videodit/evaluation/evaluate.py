"""The `evaluate` verb: the VAE on held-out clips, samples from held-out prompts before the judge, and the report."""

import json
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.files import write_atomically
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.pipeline import all_windows
from videodit.evaluation import judge as judging
from videodit.evaluation.pictures import contact_sheet
from videodit.evaluation.quality import psnr_db
from videodit.evaluation.reconstruction import held_out_windows, reconstruct, reconstruction_picture
from videodit.evaluation.report import write_report
from videodit.generation.sample import held_out_prompts, load_generator, requests_for
from videodit.training.config import ExperimentConfig, dataset_path, vae_path
from videodit.training.jobs import dit_model
from videodit.training.restore import TrainedVAE, load_vae

Pairs = dict[str, list[tuple[str, str]]]


def evaluate(config: ExperimentConfig, workdir: epath.PathLike) -> dict[str, Any]:
    """Measures a workdir, prints tables, writes `evaluation.json`, `evaluation/` (pictures) and the report; returns the figures."""
    workdir = epath.Path(workdir)
    vae = load_vae(vae_path(config, workdir))
    found: dict[str, Any] = {"vae": evaluate_vae(config, workdir, vae)}
    print(
        f"VAE: {found['vae']['psnr_db']:.2f} dB PSNR on {found['vae']['clips']} {'held-out' if found['vae']['split'] == 'held_out' else 'training'} "
        f"clips at {found['vae']['compression']:.1f} times fewer numbers"
    )
    if config.data.source == "worlds":
        pairs = judge_samples(config, workdir)
        found["judge"] = {subject: judging.shares(each) for subject, each in pairs.items()}
        found["confusion"] = {attribute: judging.confusion(each) for attribute, each in pairs["trained"].items() if each}
        print_judged(found["judge"], pairs)
    write_atomically(workdir / "evaluation.json", json.dumps(found, indent=2) + "\n")
    write_report(workdir)
    return found


def evaluate_vae(config: ExperimentConfig, workdir: epath.Path, vae: TrainedVAE) -> dict[str, Any]:
    """Mean PSNR in dB over held-out clips, and pixels times channels for each number of the latents over the same clips.

    `split` says which clips: a folder that is too small to hold any out is measured on its training clips.
    """
    dataset, windows = held_out_windows(config, dataset_path(config, workdir), config.evaluate.reconstructions)
    pairs = reconstruct(config, dataset, vae, windows)
    scores = [psnr_db(*pair) for pair in pairs]
    stride, channels = config.vae.stride, config.vae.latent_channels
    pixels = sum(source.size for source, _ in pairs)
    numbers = sum((1 + (s.shape[0] - 1) // stride[0]) * (s.shape[1] // stride[1]) * (s.shape[2] // stride[2]) * channels for s, _ in pairs)
    videos = [score for score, (source, _) in zip(scores, pairs) if len(source) > 1]
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))[:4]
    write_atomically(workdir / "evaluation" / "reconstruction.png", reconstruction_picture([pairs[i] for i in order]))
    return {
        "psnr_db": float(np.mean(scores)),
        "psnr_db_videos": float(np.mean(videos)) if videos else None,
        "clips": len({window.record for window in windows}),
        "windows": len(windows),
        "split": dataset.split,
        "compression": pixels / numbers,
        "stride": list(stride),
        "latent_channels": channels,
    }


def judge_samples(config: ExperimentConfig, workdir: epath.Path) -> dict[str, Pairs]:
    """(wanted, judged) pairs of samples of the trained model, of an untrained one, and of true held-out clips."""
    asked = held_out_prompts(config, workdir)
    requests = requests_for(config, asked, config.evaluate.prompts, config.evaluate.seed)
    truths = [asked[i % len(asked)] for i in range(len(requests))]
    trained = load_generator(config, workdir)
    clips = trained(requests, config.sample)
    write_atomically(workdir / "evaluation" / "samples.png", contact_sheet(clips[:16]))
    few = min(len(requests), max(len(config.sample.frames), len(requests) // 4))  # of every length, to have motion to judge
    start = jax.jit(dit_model(config, trained.model.latent_channels, trained.tokenizer.size).init)(jax.random.key(config.train.seed))
    noise = load_generator(config, workdir, start)(requests[:few], config.sample)
    fps = config.sample.fps
    return {
        "trained": judging.compared([(clip, fps, truth) for clip, truth in zip(clips, truths)]),
        "untrained": judging.compared([(clip, fps, truth) for clip, truth in zip(noise, truths)]),
        "truth": judging.compared(true_clips(config, workdir, len(requests))),
    }


def true_clips(config: ExperimentConfig, workdir: epath.Path, count: int) -> list[tuple[np.ndarray, float, dict]]:
    """(frames, fps, state) of held-out videos of the data set."""
    dataset = ClipDataset(dataset_path(config, workdir), "held_out")
    videos = [window.record for window in all_windows(dataset, config.latents.policy) if window.frames > 1][:count]
    records = [dataset[i] for i in videos]
    return [(decode_record(record), record["fps"], json.loads(record["state"])) for record in records]


def print_judged(shares: dict[str, dict[str, float]], pairs: dict[str, Pairs]) -> None:
    """Prints the judge's scores, and its confusion tables on the trained model and on the truth."""
    print(f"{'judged right':<14}" + "".join(f"{attribute:>10}" for attribute in shares["truth"]))
    for subject, each in shares.items():
        print(f"{subject:<14}" + "".join(f"{each.get(attribute, float('nan')):>10.1%}" for attribute in shares["truth"]))
    for subject in ("truth", "trained"):
        for attribute, each in pairs[subject].items():
            if each:
                print(f"\n{attribute} of {subject}: rows are wanted, columns judged")
                print(judging.confusion_text(judging.confusion(each)))

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
from videodit.evaluation import vae_table
from videodit.evaluation.pictures import contact_sheet
from videodit.evaluation.report import write_report
from videodit.evaluation.vae import evaluate_vae
from videodit.generation.sample import held_out_prompts, load_generator, requests_for
from videodit.training.config import ExperimentConfig, dataset_path, vae_path
from videodit.training.restore import load_vae

Pairs = dict[str, list[tuple[str, str]]]


def evaluate(config: ExperimentConfig, workdir: epath.PathLike) -> dict[str, Any]:
    """Measures a workdir, prints tables, writes `evaluation.json`, `evaluation/` (pictures) and the report; returns the figures.

    A VAE's workdir is measured as such; a transformer's is measured with the VAE of its latents, and its samples are judged.
    """
    workdir = epath.Path(workdir)
    vae = load_vae(workdir if config.model == "vae" else vae_path(config, workdir))
    found: dict[str, Any] = {"vae": evaluate_vae(config, workdir, vae)}
    told = found["vae"]
    print(
        f"VAE: {told['psnr_db']:.2f} dB PSNR on {told['clips']} {'held-out' if told['split'] == 'held_out' else 'training'} clips "
        f"at {told['compression']:.1f} times fewer numbers\n\n{vae_table.to_text(told)}\n"
    )
    if config.model == "dit" and config.data.source == "worlds":
        pairs = judge_samples(config, workdir)
        found["judge"] = {subject: judging.shares(each) for subject, each in pairs.items()}
        found["confusion"] = {attribute: judging.confusion(each) for attribute, each in pairs["trained"].items() if each}
        print_judged(found["judge"], pairs)
    write_atomically(workdir / "evaluation.json", json.dumps(found, indent=2) + "\n")
    write_report(workdir)
    return found


def judge_samples(config: ExperimentConfig, workdir: epath.Path) -> dict[str, Pairs]:
    """(wanted, judged) pairs of samples of the trained model, of an untrained one, and of true held-out clips."""
    asked = held_out_prompts(config, workdir)
    requests = requests_for(config, asked, config.evaluate.prompts, config.evaluate.seed)
    truths = [asked[i % len(asked)] for i in range(len(requests))]
    trained = load_generator(config, workdir)
    clips = trained(requests, config.sample)
    write_atomically(workdir / "evaluation" / "samples.png", contact_sheet(clips[:16]))
    few = min(len(requests), max(len(config.sample.frames), len(requests) // 4))  # of every length, to have motion to judge
    start = jax.jit(trained.model.init)(jax.random.key(config.train.seed))
    noise = load_generator(config, workdir, start, trained.text)(requests[:few], config.sample)
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

"""The `evaluate` verb: the VAE on held-out clips, samples from held-out prompts before the judge, and the report."""

import json
from typing import Any

from etils import epath

from videodit.core.files import write_atomically
from videodit.evaluation import judge as judging
from videodit.evaluation import judge_table, picture_table, showing, subjects, vae_table
from videodit.evaluation.measures import picture_measures
from videodit.evaluation.report import write_report
from videodit.evaluation.seams import Stride
from videodit.evaluation.vae import evaluate_vae
from videodit.training.config import ExperimentConfig, vae_path
from videodit.training.restore import load_vae


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
        found |= evaluate_samples(config, workdir, vae.model.config.stride)
    elif config.model == "dit":
        showing.show_unchosen(config, workdir, workdir / "evaluation")
    write_atomically(workdir / "evaluation.json", json.dumps(found, indent=2) + "\n")
    write_report(workdir)
    return found


def evaluate_samples(config: ExperimentConfig, workdir: epath.Path, stride: Stride) -> dict[str, Any]:
    """Judges samples of a worlds' transformer, measures their pictures beside the truth's, and prints both; `stride` is the VAE's."""
    samples = subjects.judged_samples(config, workdir)
    judged = samples.judgements
    confusions = {subject: subjects.confusions(judged[subject]) for subject in ("truth", "trained")}
    found = {
        "judge": subjects.estimates(judged, config.evaluate.seed),
        "judged": {"clips": len(judged["trained"]), "prompts": len({each.prompt for each in judged["trained"]})},
        "confusion": confusions["trained"],
        "picture": picture_measures(
            samples.clips, samples.through_vae, samples.renders, stride, config.sample.fps, config.evaluate.fvd_clips
        ),
    }
    showing.show_judged(samples, config.sample.fps, config.evaluate.seed, workdir / "evaluation")
    print_judged(found["judge"], confusions)
    print(f"\n{picture_table.to_text(found['picture'])}\n")
    return found


def print_judged(judged: judge_table.Judged, confusions: dict[str, dict[str, dict[str, dict[str, int]]]]) -> None:
    """Prints the judge's table, and its confusion tables by subject."""
    print(judge_table.to_text(judged))
    for subject, tables in confusions.items():
        for attribute, table in tables.items():
            print(f"\n{attribute} of {subject}: rows are wanted, columns judged\n{judging.confusion_text(table)}")

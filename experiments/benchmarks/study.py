#!/usr/bin/env python3
"""A recipe's study: the transformer of one experiment trained under one change at a time, its samples judged.

    python experiments/benchmarks/study.py --config=experiments/local.py:dit --workdir=runs/local --output=runs/study --steps=600 \\
        --seeds=2 optimizer.name=adamw+optimizer.learning_rate=2e-3 process.known.first=0.05 dit.width=256

`--workdir` holds a data set, a VAE and latents (`launch/local.sh` makes them); nothing is written there. Each argument is a change,
`KEY=VALUE`, of several keys joined by `+`; the experiment as it is comes first. Prints a row a change: the loss averaged over the last
tenth of the steps, the shares of held-out prompts' clips that the judge finds right, mean over seeds, and the minutes of a training. Of
`--workers` trainings that run at once each gets its share of the cores. A training that has finished in `--output` is not repeated.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

FACTS = ("whole", "colour", "shape", "motion", "hops", "alone", "steady")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--clips", type=int, default=110)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    jobs = [(change, seed) for change in ("", *chosen.changes) for seed in range(chosen.seeds)]
    cores = np.array_split(sorted(os.sched_getaffinity(0)), chosen.workers)
    free = list(cores)
    with concurrent.futures.ThreadPoolExecutor(chosen.workers) as pool:

        def run(job):
            mine = free.pop()
            try:
                return one(chosen, *job, mine)
            finally:
                free.append(mine)

        found = dict(zip(jobs, pool.map(run, jobs)))
    print("| change | loss | " + " | ".join(f"{fact}, %" for fact in FACTS) + " | minutes |\n" + "| --- " * (len(FACTS) + 3) + "|")
    for change in ("", *chosen.changes):
        of = [found[change, seed] for seed in range(chosen.seeds)]
        mean = {name: float(np.mean([each[name] for each in of])) for name in of[0]}
        shares = " | ".join(f"{100 * mean[fact]:.0f}" for fact in FACTS)
        print(f"| {change or 'as it is'} | {mean['loss']:.3f} | {shares} | {mean['minutes']:.1f} |")


def one(chosen: argparse.Namespace, change: str, seed: int, cores: np.ndarray) -> dict[str, float]:
    """Trains and judges a change with a seed, in processes of their own on `cores`, unless it has been."""
    name = change.replace("/", "_") or "as_it_is"
    workdir = chosen.output / f"{name}-{seed}"
    told = workdir / "study.json"
    if not told.exists():
        settings = {
            "data.path": chosen.workdir / "dataset",
            "latents.path": chosen.workdir / "latents",
            "latents.vae": chosen.workdir / "vae",
            "train.steps": chosen.steps,
            "train.seed": seed,
            "train.save_every": chosen.steps,
            "train.sample_every": chosen.steps,
            **dict(each.split("=", 1) for each in change.split("+") if each),
        }
        flags = [f"--config.{key}={value}" for key, value in settings.items()]
        began = time.monotonic()
        command = [sys.executable, "-m", "videodit.cli", "train", f"--config={chosen.config}", f"--workdir={workdir}", *flags]
        on = {"preexec_fn": lambda: os.sched_setaffinity(0, set(cores.tolist()))}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **on)
        minutes = (time.monotonic() - began) / 60
        subprocess.run([sys.executable, __file__, "judge", workdir, str(chosen.clips), str(minutes)], check=True, **on)
    return json.loads(told.read_text())


def judge(workdir: str, clips: str, minutes: str) -> None:
    """Writes `workdir/study.json`."""
    from videodit.core.config import read_config
    from videodit.evaluation import judge as judging
    from videodit.generation.sample import held_out_prompts, load_generator, requests_for
    from videodit.training.config import read_experiment

    config, directory = read_experiment(read_config(workdir)), pathlib.Path(workdir)
    prompts = held_out_prompts(config, workdir)
    requests = requests_for(config, prompts, int(clips), config.evaluate.seed)
    shown = load_generator(config, workdir)(requests, config.sample)
    right: dict[str, list[bool]] = {}
    for number, clip in enumerate(shown):
        for fact, good in judging.right(judging.judge(clip, config.sample.fps), prompts[number % len(prompts)], len(clip)).items():
            right.setdefault(fact, []).append(good)
    losses = [json.loads(line) for line in (directory / "metrics" / "metrics.jsonl").read_text().splitlines()]
    losses = [each["loss"] for each in losses if each.get("step", 0) > 0.9 * config.train.steps and "loss" in each]
    told = {fact: float(np.mean(right[fact])) for fact in FACTS} | {"loss": float(np.mean(losses)), "minutes": float(minutes)}
    (directory / "study.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    judge(*sys.argv[2:]) if sys.argv[1:2] == ["judge"] else main()

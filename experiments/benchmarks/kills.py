#!/usr/bin/env python3
"""Kills a whole job at random instants, and shows that it ends as one that was left alone does.

    python experiments/benchmarks/kills.py --workdir runs/kills --kills 20 --config experiments/local.py

runs `launch/local.sh` once undisturbed, in WORKDIR/whole, and once in WORKDIR/killed, where its whole process group gets SIGKILL
and is started again, so many times. The instants are uniform over the job's wall time: each is drawn as the first of those left, over
the seconds that the undisturbed run still needed from what the killed one has finished. Should a run end before its last kill, those
left over go to one more run. Prints what was killed and both runs' fingerprints; the exit status is 1 where they differ. Standard
library only.
"""

import argparse
import contextlib
import hashlib
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "vae", "encode", "dit", "sample")
# What is there once it is whole: by these a killed run's progress is told.
FINISHED = (".done/*", "dataset/shards/*.json", "latents/shards/*.json", "vae/checkpoints/*", "checkpoints/*")
# What is there only while something is being written.
UNFINISHED = ("**/*.orbax-checkpoint-tmp*", "**/.partial-*", "**/.*.partial")


def finished(workdir: Path) -> set[str]:
    """Names of what a job has finished, relative to its workdir."""
    found = (path for pattern in FINISHED for path in workdir.glob(pattern))
    return {str(path.relative_to(workdir)) for path in found if path.parent.name != "checkpoints" or path.name.isdigit()}


@contextlib.contextmanager
def running(launcher: Path, workdir: Path, config: Path):
    """Gives the job's process, in a process group of its own that does not outlive this.

    Raises SystemExit where the job fails by itself.
    """
    log = workdir.parent / f"{workdir.name}.log"
    command = [str(launcher), "--workdir", str(workdir), "--config", str(config)]
    with open(log, "a") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode > 0:
        raise SystemExit(f"the job ended with status {process.returncode}; its last words:\n{log.read_text()[-2000:]}")


def watch(launcher: Path, workdir: Path, config: Path) -> tuple[float, dict[str, float]]:
    """Runs the job undisturbed; returns its seconds, and when each thing was finished."""
    workdir.mkdir(parents=True)
    begun, seen = time.monotonic(), {}
    with running(launcher, workdir, config) as process:
        while process.poll() is None:
            for name in finished(workdir):
                seen.setdefault(name, time.monotonic() - begun)
            time.sleep(0.05)
    return time.monotonic() - begun, seen


def kill_at_random(
    launcher: Path, workdir: Path, config: Path, kills: int, seconds: float, seen: dict[str, float], draw: random.Random
) -> list[dict]:
    """Runs the job to its end and kills it up to `kills` times on its way; returns what each kill met."""
    workdir.mkdir(parents=True)
    made, elapsed = [], 0.0
    starting = min(seen.values())  # what a start costs before anything is finished
    while True:
        left = kills - len(made)
        reached = max((seen.get(name, 0.0) for name in finished(workdir)), default=0.0)
        ahead = seconds - reached + (starting if reached else 0.0)
        wait, begun = ahead * (1 - draw.random() ** (1 / left)) if left else None, time.monotonic()
        with running(launcher, workdir, config) as process, contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
            return made
        elapsed += time.monotonic() - begun
        made.append({"at_seconds": round(elapsed, 2), "since_start": round(wait, 2)} | met(workdir))
        print(f"kill {len(made)}: {made[-1]}", file=sys.stderr, flush=True)


def met(workdir: Path) -> dict:
    """Where a job was when it was killed: its stage, the newest checkpoint, and what it was writing."""
    stage = next((name for name in STAGES if not (workdir / ".done" / name).exists()), "report")
    folder = {"vae": workdir / "vae", "dit": workdir}.get(stage, workdir / "nothing") / "checkpoints"
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    writing = sorted({path.name for pattern in UNFINISHED for path in workdir.glob(pattern)})
    return {"stage": stage, "newest_step": max(steps, default=None), "half_written": writing}


def outcome(launcher: Path, workdir: Path) -> dict:
    """What tells two runs equal: fingerprints of both models' weights, the data position, and the bytes of every record."""
    command = [str(launcher.parents[1] / ".venv/bin/videodit"), "inspect", "--workdir", str(workdir), "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    records = hashlib.sha256()
    for path in sorted(path for folder in ("dataset", "latents") for path in (workdir / folder).glob("*.array_record-*")):
        records.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return {
        "step": found["step"],
        "fingerprint": found["fingerprint"],
        "vae_fingerprint": found["vae"]["fingerprint"],
        "data_position": found["data_position"],
        "records": records.hexdigest(),
    }


def measure(launcher: Path, workdir: Path, config: Path, kills: int, seed: int) -> dict:
    """The whole measurement; `identical` says how it went."""
    seconds, seen = watch(launcher, workdir / "whole", config)
    whole, runs, draw = outcome(launcher, workdir / "whole"), [], random.Random(seed)
    while not runs or sum(len(run["kills"]) for run in runs) < kills:
        at = workdir / f"killed-{len(runs) + 1}"
        left = kills - sum(len(run["kills"]) for run in runs)
        made = kill_at_random(launcher, at, config, left, seconds, seen, draw)
        runs.append({"kills": made, **outcome(launcher, at)})
    identical = all({key: run[key] for key in whole} == whole for run in runs)
    return {
        "config": str(config),
        "seed": seed,
        "seconds": round(seconds, 1),
        "kills": kills,
        "identical": identical,
        "whole": whole,
        "killed": runs,
    }


def table(found: dict) -> str:
    """The measurement for a person."""
    row = "{:>4}  {:>8}  {:>15}  {:<8}  {:>11}  {}".format
    lines = [
        f"{found['config']}: {found['seconds']} s undisturbed",
        row("kill", "at (s)", "since start (s)", "stage", "newest step", "half written"),
    ]
    for number, kill in enumerate((kill for run in found["killed"] for kill in run["kills"]), start=1):
        step, half = "-" if kill["newest_step"] is None else kill["newest_step"], ", ".join(kill["half_written"]) or "-"
        lines.append(row(number, kill["at_seconds"], kill["since_start"], kill["stage"], step, half))
    for name, run in (("whole", found["whole"]), *((f"killed, run {n}", run) for n, run in enumerate(found["killed"], start=1))):
        lines.append(
            f"{name}: step {run['step']}, fingerprint {run['fingerprint']}, VAE {run['vae_fingerprint']}, records {run['records'][:16]}"
        )
    return "\n".join([*lines, "identical" if found["identical"] else "DIFFERENT"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder for all runs and their logs")
    parser.add_argument("--config", type=Path, default=ROOT / "tests/tiny.py", help="the experiment (default: tests/tiny.py)")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--launcher", type=Path, default=ROOT / "launch/local.sh", help="the job's script, with .venv beside its folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    if chosen.workdir.exists():
        parser.error(f"--workdir {chosen.workdir} exists; name a new folder")
    found = measure(chosen.launcher.resolve(), chosen.workdir.resolve(), chosen.config.resolve(), chosen.kills, chosen.seed)
    print(json.dumps(found) if chosen.json else table(found))
    return 0 if found["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())

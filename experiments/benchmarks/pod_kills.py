#!/usr/bin/env python3
"""Kills one worker of a local pod at random instants, and shows that the pod ends as one that was left alone does.

    python experiments/benchmarks/pod_kills.py --workdir runs/pod_kills --kills 10

makes the data of `--config` (default: tests/tiny.py), its VAE and its latents once; then trains the transformer with `launch/submit.py pod`
in two processes, once undisturbed in WORKDIR/whole, and again in WORKDIR/killed-N, where SIGKILL hits a worker drawn at random and the
launcher starts both again. The instants are uniform over what a start still has to do: from the moment when the processes begin to the
end that an undisturbed pod would reach. Should a pod end before its last kill, those left over go to one more. Prints what each kill met
and what both kinds ended with; the exit status is 1 where they differ.
"""

import argparse
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from launch.restarts import newest_step  # noqa: E402
from videodit.training import checkpoint_contents  # noqa: E402

# Saves are frequent, so that many kills meet one under way; pictures are not what is measured.
OVERRIDES = ("--config.train.save_every=2", "--config.train.sample_every=100000", "--config.sample.count=1", "--config.sample.steps=1")


class Pod:
    """A pod that runs; its launcher writes to `log`."""

    def __init__(self, workdir: Path, data: Path, config: str, steps: int, kills: int):
        self.log = workdir.with_suffix(".log")
        command = [
            sys.executable,
            str(ROOT / "launch/submit.py"),
            "pod",
            f"--config={config}:dit",
            f"--workdir={workdir}",
            "--topology=cpu:2",
        ]
        # each kill may come before the next checkpoint
        command += [f"--restarts={kills}", f"--config.train.steps={steps}", f"--config.data.path={data / 'dataset'}"]
        command += [f"--config.latents.path={data / 'latents'}", f"--config.latents.vae={data / 'vae'}", *OVERRIDES]
        with open(self.log, "w") as output:
            self.launcher = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def starts(self) -> list[list[int]]:
        """The processes of each start so far."""
        found = re.findall(r"launch: started processes (.*)", self.log.read_text())
        return [[int(pid) for pid in each.split()] for each in found]

    def wait_for_start(self, number: int) -> list[int]:
        while self.launcher.poll() is None:
            if len(self.starts()) >= number:
                return self.starts()[number - 1]
            time.sleep(0.02)
        return []

    def check(self) -> None:
        if self.launcher.returncode != 0:
            raise SystemExit(f"the pod ended with status {self.launcher.returncode}; its last words:\n{self.log.read_text()[-2000:]}")


def make_data(workdir: Path, config: str) -> None:
    """The data set, the VAE and the latents that all pods train on."""
    videodit = [sys.executable, "-m", "videodit.cli"]
    verbs = (
        ["prepare", f"--config={config}:vae", f"--output={workdir / 'dataset'}"],
        ["train", f"--config={config}:vae", f"--workdir={workdir / 'vae'}"],
    )
    verbs += (["encode", f"--config={config}:dit", f"--workdir={workdir}"],)
    for verb in verbs:
        more = [] if verb[0] == "prepare" else [f"--config.data.path={workdir / 'dataset'}"]
        subprocess.run([*videodit, *verb, *more], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)


def undisturbed(make) -> tuple[float, float]:
    """Runs a pod to its end; returns its seconds, and those before its first checkpoint."""
    pod, begun, first = make(), time.monotonic(), None
    while pod.launcher.poll() is None:
        if first is None and newest_step(str(pod.log.with_suffix(""))) > 0:
            first = time.monotonic() - begun
        time.sleep(0.02)
    pod.check()
    return time.monotonic() - begun, first


def disturbed(make, kills: int, seconds: float, first: float, steps: int, draw: random.Random) -> list[dict]:
    """Runs a pod to its end and kills one of its workers up to `kills` times; returns what each kill met."""
    pod, made = make(), []
    workdir = pod.log.with_suffix("")
    while len(made) < kills:
        pids = pod.wait_for_start(len(made) + 1)
        if not pids:
            break
        # what starting costs, and the share of the steps that is left, in the instants that are left
        left = first + (seconds - first) * (1 - max(newest_step(str(workdir)), 0) / steps)
        wait, worker = left * (1 - draw.random() ** (1 / (kills - len(made)))), draw.randrange(len(pids))
        end = time.monotonic() + wait
        while time.monotonic() < end and pod.launcher.poll() is None:
            time.sleep(0.01)
        if pod.launcher.poll() is not None:
            break
        writing = sorted({path.name for path in workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")})
        made.append({"since_start": round(wait, 2), "worker": worker, "newest_step": newest_step(str(workdir)), "half_written": writing})
        try:
            os.kill(pids[worker], signal.SIGKILL)
        except ProcessLookupError:  # it had just ended
            made.pop()
            break
        print(f"kill {len(made)}: {made[-1]}", file=sys.stderr, flush=True)
    pod.launcher.wait()
    pod.check()
    return made


def outcome(workdir: Path) -> dict:
    """What tells two pods equal: every array of the last step's state, and where they stood in the data."""
    step = checkpoint_contents.finished_steps(workdir)[-1]
    newest = workdir / "checkpoints" / str(step)
    arrays = checkpoint_contents.read(newest, checkpoint_contents.leaves(newest))
    return {"step": step, "fingerprint": checkpoint_contents.fingerprint(arrays), "data": checkpoint_contents.data_position(newest)}


def measure(workdir: Path, config: str, steps: int, kills: int, seed: int) -> dict:
    """The whole measurement; `identical` says how it went."""
    # programs are compiled once, before anything is timed
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(workdir / "cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    os.environ["JAX_PLATFORMS"] = "cpu"
    make_data(workdir / "data", config)
    make = lambda name: lambda: Pod(workdir / name, workdir / "data", config, steps, kills)
    undisturbed(make("warm"))
    seconds, first = undisturbed(make("whole"))
    whole, runs, draw = outcome(workdir / "whole"), [], random.Random(seed)
    while (left := kills - sum(len(run["kills"]) for run in runs)) > 0:
        name = f"killed-{len(runs) + 1}"
        runs.append({"kills": disturbed(make(name), left, seconds, first, steps, draw), **outcome(workdir / name)})
    identical = all({key: run[key] for key in whole} == whole for run in runs)
    return {"config": config, "seed": seed, "seconds": round(seconds, 1), "identical": identical, "whole": whole, "killed": runs}


def table(found: dict) -> str:
    """The measurement for a person."""
    row = "{:>4}  {:>15}  {:>6}  {:>11}  {}".format
    lines = [
        f"{found['config']}: {found['seconds']} s undisturbed",
        row("kill", "since start (s)", "worker", "newest step", "half written"),
    ]
    for number, kill in enumerate((kill for run in found["killed"] for kill in run["kills"]), start=1):
        step, half = "-" if kill["newest_step"] < 0 else kill["newest_step"], ", ".join(kill["half_written"]) or "-"
        lines.append(row(number, kill["since_start"], kill["worker"], step, half))
    for name, run in (("whole", found["whole"]), *((f"killed, pod {n}", run) for n, run in enumerate(found["killed"], start=1))):
        lines.append(f"{name}: step {run['step']}, fingerprint of the whole state {run['fingerprint']}")
    return "\n".join([*lines, "identical" if found["identical"] else "DIFFERENT"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder for all pods and their logs")
    parser.add_argument(
        "--config", default=str(ROOT / "tests/tiny.py"), help="the experiment, with variants vae and dit (default: tests/tiny.py)"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the instants and the workers")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    if chosen.workdir.exists():
        parser.error(f"--workdir {chosen.workdir} exists; name a new folder")
    workdir = chosen.workdir.resolve()
    workdir.mkdir(parents=True)
    found = measure(workdir, chosen.config, chosen.steps, chosen.kills, chosen.seed)
    print(json.dumps(found) if chosen.json else table(found))
    return 0 if found["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())

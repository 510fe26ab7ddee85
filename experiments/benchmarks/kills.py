#!/usr/bin/env python3
"""Kills a whole job at random instants, and shows that it ends as one that was left alone does.

    python experiments/benchmarks/kills.py --workdir runs/kills [--kills 50] [--processes 2] [--config experiments/local.py]

runs the whole job once undisturbed, in WORKDIR/whole, and once in WORKDIR/killed-1, where its whole process group gets SIGKILL and is
started again, so many times. The instants are uniform over the job's wall time: each is drawn as the first of those left, over the
seconds that the undisturbed run still needed from what the killed one has finished. Every second kill waits from its instant on until a
checkpoint, a shard or a file is half written. Should a run end before its last kill, those left over go to one more run.

The job is `launch/local.sh`; with --processes, its stages but the last with as many processes that train and encode together
(`jax.distributed`, gloo). Of these half of the kills, at random, take one process first and the others up to 2 seconds later.

Prints what was killed and all runs' fingerprints; the exit status is 1 where they differ. Standard library only.
"""

import argparse
import contextlib
import hashlib
import json
import os
from pathlib import Path
import random
import signal
import socket
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "vae", "encode", "dit", "sample")
# What is there once it is whole: by these a killed run's progress is told.
FINISHED = (".done/*", "dataset/shards/*.json", "latents/shards/*.json", "vae/checkpoints/*", "checkpoints/*")
# What is there only while something is being written.
UNFINISHED = ("**/*.orbax-checkpoint-tmp*", "**/.partial-*", "**/.*.partial")
WORKERS = ".workers"  # the process ids of a stage that several processes work at
_LAST_WORD = 5  # seconds: workers end with the first that is killed, and a kill of all is up to 2 seconds behind that
_GRACE = 20  # seconds that the others get to end once one of several processes has failed

_WORKER = """
import sys
port, count, index, *arguments = sys.argv[1:]
if int(count) > 1:
    import jax
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
from videodit.cli import main
sys.exit(main(arguments))
"""


def finished(workdir: Path) -> set[str]:
    """Names of what a job has finished, relative to its workdir."""
    found = (path for pattern in FINISHED for path in workdir.glob(pattern))
    return {str(path.relative_to(workdir)) for path in found if path.parent.name != "checkpoints" or path.name.isdigit()}


def drive(workdir: Path, config: Path, count: int) -> None:
    """Runs the stages that are not done yet; training and encoding in `count` processes."""
    clips, here = f"--config.data.path={workdir / 'dataset'}", f"--workdir={workdir}"
    vae, dit = (f"--config={config}:{variant}" for variant in ("vae", "dit"))
    stages = {
        "prepare": (1, ["prepare", vae, f"--output={workdir / 'dataset'}"]),
        "vae": (count, ["train", vae, clips, f"--workdir={workdir / 'vae'}"]),
        "encode": (count, ["encode", dit, clips, here]),
        "dit": (count, ["train", dit, clips, here]),
    }
    done, environment = workdir / ".done", {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(workdir / ".jax_cache")}
    done.mkdir(exist_ok=True)
    for name, (processes, arguments) in stages.items():
        if (done / name).exists():
            continue
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", _WORKER, str(port), str(processes)]
        workers = [subprocess.Popen([*command, str(n), *arguments], env={**os.environ, **environment}) for n in range(processes)]
        (workdir / WORKERS).write_text(json.dumps([worker.pid for worker in workers]))
        if not _all_end_well(workers):
            time.sleep(_LAST_WORD)
            raise SystemExit(f"{name} failed")
        (done / name).touch()


def _all_end_well(workers: list[subprocess.Popen]) -> bool:
    until = None
    while any(worker.poll() is None for worker in workers):
        if until is None and any(worker.poll() for worker in workers):
            until = time.monotonic() + _GRACE
        if until and time.monotonic() > until:
            for worker in workers:
                worker.kill()
        time.sleep(0.05)
    return not any(worker.returncode for worker in workers)


@contextlib.contextmanager
def running(command: list[str], workdir: Path):
    """Gives the job's process, in a process group of its own that does not outlive this.

    Raises SystemExit where the job fails by itself.
    """
    log = workdir.parent / f"{workdir.name}.log"
    with open(log, "a") as output:
        process = subprocess.Popen(
            [*command, "--workdir", str(workdir)], stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode > 0:
        raise SystemExit(f"the job ended with status {process.returncode}; its last words:\n{log.read_text()[-2000:]}")


def watch(command: list[str], workdir: Path) -> tuple[float, dict[str, float]]:
    """Runs the job undisturbed; returns its seconds, and when each thing was finished."""
    workdir.mkdir(parents=True)
    begun, seen = time.monotonic(), {}
    with running(command, workdir) as process:
        while process.poll() is None:
            for name in finished(workdir):
                seen.setdefault(name, time.monotonic() - begun)
            time.sleep(0.05)
    return time.monotonic() - begun, seen


def kill_at_random(
    command: list[str], workdir: Path, kills: int, seconds: float, seen: dict[str, float], draw: random.Random
) -> list[dict]:
    """Runs the job to its end and kills it up to `kills` times on its way; returns what each kill met."""
    workdir.mkdir(parents=True)
    made, elapsed = [], 0.0
    starting = min(seen.values())  # what a start costs before anything is finished
    while True:
        left = kills - len(made)
        reached = max((seen.get(name, 0.0) for name in finished(workdir)), default=0.0)
        ahead = seconds - reached + (starting if reached else 0.0)
        begun = time.time()
        with running(command, workdir) as process:
            if not left or not _reaches(process, ahead * (1 - draw.random() ** (1 / left)), workdir, begun, aimed=len(made) % 2 == 1):
                process.wait()
                return made
            alive, found = time.time() - begun, met(workdir, begun)
            who = _take_one(workdir, draw)
        elapsed += time.time() - begun
        made.append({"at_seconds": round(elapsed, 2), "since_start": round(alive, 2), "killed": who} | found)
        print(f"kill {len(made)}: {made[-1]}", file=sys.stderr, flush=True)


def _reaches(process: subprocess.Popen, seconds: float, workdir: Path, since: float, aimed: bool) -> bool:
    """Waits so long, and where `aimed` until something is half written; False where the job ends first."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    while aimed and process.poll() is None and not half_written(workdir, since):
        time.sleep(0.002)
    return process.poll() is None


def _take_one(workdir: Path, draw: random.Random) -> str:
    """Kills one of several processes a little before the others, every second time; says what is killed."""
    workers = json.loads((workdir / WORKERS).read_text()) if (workdir / WORKERS).exists() else []
    if len(workers) < 2 or draw.random() < 0.5:
        return "all"
    one, pause = draw.randrange(len(workers)), 2 * draw.random()
    with contextlib.suppress(ProcessLookupError):
        os.kill(workers[one], signal.SIGKILL)
    time.sleep(pause)
    return f"{one}, all {pause:.1f} s later"


def half_written(workdir: Path, since: float) -> list[str]:
    """Names of what is being written, by a process that was started at the time `since`; what earlier ones have left is none of it."""
    found = set()
    for path in (path for pattern in UNFINISHED for path in workdir.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            found |= {path.name} if path.stat().st_mtime >= since else set()
    return sorted(found)


def met(workdir: Path, since: float) -> dict:
    """Where a job was when it was killed: its stage, the newest checkpoint, and what it was writing."""
    stage = next((name for name in STAGES if not (workdir / ".done" / name).exists()), "report")
    folder = {"vae": workdir / "vae", "dit": workdir}.get(stage, workdir / "nothing") / "checkpoints"
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    return {"stage": stage, "newest_step": max(steps, default=None), "half_written": half_written(workdir, since)}


def outcome(python: Path, workdir: Path) -> dict:
    """What tells two runs equal: fingerprints of both models' weights, the data position, and the bytes of every record."""
    command = [str(python), "-m", "videodit.cli", "inspect", "--workdir", str(workdir), "--json"]
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


def measure(launcher: Path, workdir: Path, config: Path, kills: int, processes: int, seed: int) -> dict:
    """The whole measurement; `identical` says how it went."""
    # The environment that the launcher makes, where it is the launcher that runs.
    python = launcher.parents[1] / ".venv/bin/python" if processes == 1 else Path(sys.executable)
    command = [str(launcher)] if processes == 1 else [str(python), str(Path(__file__).resolve()), "--drive", "--processes", str(processes)]
    command += ["--config", str(config)]
    seconds, seen = watch(command, workdir / "whole")
    whole, runs, draw = outcome(python, workdir / "whole"), [], random.Random(seed)
    while not runs or sum(len(run["kills"]) for run in runs) < kills:
        at = workdir / f"killed-{len(runs) + 1}"
        left = kills - sum(len(run["kills"]) for run in runs)
        made = kill_at_random(command, at, left, seconds, seen, draw)
        runs.append({"kills": made, **outcome(python, at)})
    identical = all({key: run[key] for key in whole} == whole for run in runs)
    return {
        "config": str(config),
        "processes": processes,
        "seed": seed,
        "seconds": round(seconds, 1),
        "kills": kills,
        "identical": identical,
        "whole": whole,
        "killed": runs,
    }


def table(found: dict) -> str:
    """The measurement for a person."""
    row = "{:>4}  {:>8}  {:>15}  {:<8}  {:>11}  {:<19}  {}".format
    all_kills = [kill for run in found["killed"] for kill in run["kills"]]
    count = "1 process" if found["processes"] == 1 else f"{found['processes']} processes"
    lines = [
        f"{found['config']}, {count}: {found['seconds']} s undisturbed",
        row("kill", "at (s)", "since start (s)", "stage", "newest step", "killed", "half written"),
    ]
    for number, kill in enumerate(all_kills, start=1):
        step, half = "-" if kill["newest_step"] is None else kill["newest_step"], ", ".join(kill["half_written"]) or "-"
        lines.append(row(number, kill["at_seconds"], kill["since_start"], kill["stage"], step, kill["killed"], half))
    stages = [kill["stage"] for kill in all_kills]
    by_stage = ", ".join(f"{stages.count(stage)} in {stage}" for stage in dict.fromkeys([*STAGES, *stages]) if stage in stages)
    lines.append(f"{len(all_kills)} kills: {by_stage}; {sum(bool(kill['half_written']) for kill in all_kills)} with something half written")
    for name, run in (("whole", found["whole"]), *((f"killed, run {n}", run) for n, run in enumerate(found["killed"], start=1))):
        lines.append(
            f"{name}: step {run['step']}, fingerprint {run['fingerprint']}, VAE {run['vae_fingerprint']}, records {run['records'][:16]}"
        )
    return "\n".join([*lines, "identical" if found["identical"] else "DIFFERENT"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder for all runs and their logs")
    parser.add_argument("--config", type=Path, default=ROOT / "tests/tiny.py", help="the experiment (default: tests/tiny.py)")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=1, help="that train and encode together; more than one runs without the launcher")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--launcher", type=Path, default=ROOT / "launch/local.sh", help="the job's script, with .venv beside its folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--drive", action="store_true", help="run the job in --processes, once: what is killed")
    chosen = parser.parse_args()
    if chosen.processes > 1:  # without the launcher's environment
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    if chosen.drive:
        drive(chosen.workdir, chosen.config, chosen.processes)
        return 0
    if chosen.workdir.exists():
        parser.error(f"--workdir {chosen.workdir} exists; name a new folder")
    places = (path.resolve() for path in (chosen.launcher, chosen.workdir, chosen.config))
    found = measure(*places, chosen.kills, chosen.processes, chosen.seed)
    print(json.dumps(found) if chosen.json else table(found))
    return 0 if found["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Prepares a dataset of many small clips twice, once killed at random moments, and shows that both end the same, byte for byte.

    python experiments/benchmarks/prepare.py --workdir runs/prepare --clips 10000 --kills 10

writes a few hundred small distinct clips of the built-in worlds as media files, some of them broken, makes so many inputs of them (half
as files of their own, half as members of WebDataset tars), and runs `videodit prepare` on all: once undisturbed, in WORKDIR/whole, and once
in WORKDIR/killed, where its whole process group gets SIGKILL and is started again, so many times. The instants are uniform over the
run's wall time: each is drawn as the first of those left, over the seconds that the undisturbed run still needed from what the killed
one has finished. Compared are the bytes of all records, indices, rejects and metadata. The exit status is 1 where they differ.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import tarfile
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from videodit.data import media  # noqa: E402
from videodit.data.worlds import WorldsConfig, WorldsSource  # noqa: E402

SIZES = ((24, 40), (40, 24), (32, 32), (48, 64))  # (height, width)
MEMBERS = 500  # of a tar
BROKEN = 50  # one distinct clip in so many is cut short


def make_distinct(count: int) -> list[tuple[str, bytes]]:
    """Returns (suffix, bytes) of so many small media files; one in BROKEN breaks off."""
    source = WorldsSource(WorldsConfig(seed=5, count=count, sizes=SIZES, frames=(1, 9, 17)))
    made = []
    for number in range(count):
        frames, fps = source[number]["frames"], source[number]["fps"]
        suffix, content = (".png", media.encode_image(frames[0])) if len(frames) == 1 else (".mp4", media.encode_video(frames, fps))
        made.append((suffix, content[: len(content) // 2] if number % BROKEN == BROKEN - 1 else content))
    return made


def make_inputs(folder: Path, clips: int, distinct: int) -> None:
    """Writes `clips` inputs to `folder`: half of them files, half of them members of tars, each with a caption."""
    made = make_distinct(min(clips, distinct))
    (folder / "files").mkdir(parents=True)
    lines, tars = [], clips // 2
    for number in range(tars, clips):
        suffix, content = made[number % len(made)]
        name = f"files/{number:06d}{suffix}"
        (folder / name).write_bytes(content)
        lines.append(json.dumps({"file": name, "caption": f"clip {number}"}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines))
    for start in range(0, tars, MEMBERS):
        with tarfile.open(folder / f"tar-{start // MEMBERS:04d}.tar", "w") as tar:
            for number in range(start, min(start + MEMBERS, tars)):
                suffix, content = made[number % len(made)]
                for name, member in ((f"{number:06d}{suffix}", content), (f"{number:06d}.txt", f"clip {number}".encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(member)
                    tar.addfile(info, io.BytesIO(member))


@contextlib.contextmanager
def running(inputs: Path, output: Path, workers: int):
    """Gives the process of prepare, in a process group of its own that does not outlive this.

    Raises SystemExit where it fails by itself.
    """
    command = [
        sys.executable, "-m", "videodit.cli", "prepare", f"--config={ROOT / 'experiments/local.py'}:vae", f"--output={output}",
        "--config.data.source=files", f"--config.data.inputs={inputs}", f"--config.data.workers={workers}", "--config.data.shard_mb=1",
        "--json",
    ]  # fmt: skip
    log, path = output.with_name(f"{output.name}.log"), os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    with open(log, "a") as text:
        process = subprocess.Popen(command, stdout=text, stderr=text, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode > 0:
        raise SystemExit(f"prepare ended with status {process.returncode}; its last words:\n{log.read_text()[-2000:]}")


def finished(output: Path, tasks: int) -> int:
    """Returns how many things a run has finished: tasks of examining, of which there are `tasks` in all, and shards."""
    parts = len(list(output.glob("examined/*/part-*.jsonl")))
    return (tasks if list(output.glob("examined/*/all.jsonl")) else parts) + len(list(output.glob("clips-*")))


def watch(inputs: Path, output: Path, workers: int) -> tuple[float, list[float], int]:
    """Runs prepare undisturbed; returns its seconds, those at which each thing was finished, and its tasks of examining."""
    begun, seen, tasks = time.monotonic(), [], 0
    with running(inputs, output, workers) as process:
        while process.poll() is None:
            tasks = max(tasks, len(list(output.glob("examined/*/part-*.jsonl"))))
            count = finished(output, tasks)
            seen += [time.monotonic() - begun] * (count - len(seen))
            time.sleep(0.02)
    return time.monotonic() - begun, seen, tasks


def kill_at_random(inputs: Path, output: Path, workers: int, kills: int, whole: tuple[float, list[float], int], draw: random.Random):
    """Runs prepare to its end and kills it `kills` times on its way; returns what each kill met."""
    (seconds, seen, tasks), made, elapsed = whole, [], 0.0
    starting = seen[0]  # what a start costs before anything is finished
    while True:
        left, count = kills - len(made), finished(output, tasks)
        reached = seen[min(count, len(seen)) - 1] if count else 0.0
        ahead = seconds - reached + (starting if count else 0.0)
        wait, begun = ahead * (1 - draw.random() ** (1 / left)) if left else None, time.monotonic()
        with running(inputs, output, workers) as process, contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
            return made
        elapsed += time.monotonic() - begun
        made.append({"at_seconds": round(elapsed, 2), "since_start": round(wait, 2)} | met(output))
        print(f"kill {len(made)}: {made[-1]}", file=sys.stderr, flush=True)


def met(output: Path) -> dict:
    """Returns how far a run was when it was killed, and what it was writing."""
    half = {path.name.split(".partial")[0] for pattern in (".partial-*", "**/.*.partial") for path in output.glob(pattern)}
    examined = len(list(output.glob("examined/*/part-*.jsonl")))
    stage = "write" if list(output.glob("examined/*/all.jsonl")) else "examine" if examined else "start"
    return {"stage": stage, "parts": examined, "shards": len(list(output.glob("clips-*"))), "half_written": len(half)}


def outcome(output: Path) -> dict[str, str]:
    """Returns the digest of every file of a dataset, but of what is only kept to examine nothing twice."""
    paths = [path for path in sorted(output.rglob("*")) if path.is_file() and path.relative_to(output).parts[0] != "examined"]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def measure(workdir: Path, clips: int, distinct: int, kills: int, workers: int, seed: int) -> dict:
    """The whole measurement; `identical` says how it went."""
    make_inputs(workdir / "inputs", clips, distinct)
    whole = watch(workdir / "inputs", workdir / "whole", workers)
    if not whole[1]:
        raise SystemExit("prepare finished nothing while it was watched")
    summary = json.loads((workdir / "whole.log").read_text().splitlines()[-1])
    runs, expected, draw = [], outcome(workdir / "whole"), random.Random(seed)
    while sum(len(run["kills"]) for run in runs) < kills:
        output, left = workdir / f"killed-{len(runs) + 1}", kills - sum(len(run["kills"]) for run in runs)
        made = kill_at_random(workdir / "inputs", output, workers, left, whole, draw)
        found = outcome(output)
        runs.append({"kills": made, "differ": sorted(name for name in found | expected if found.get(name) != expected.get(name))})
    return {
        "inputs": clips,
        "kept": summary["kept"],
        "rejected": summary["rejected"],
        "hours_kept": round(summary["hours_kept"], 4),
        "megabytes": round(sum(summary["bytes"].values()) / 1e6, 2),
        "shards": sum(".array_record-" in name for name in expected),
        "workers": workers,
        "seed": seed,
        "seconds": round(whole[0], 1),
        "inputs_a_second": round(clips / whole[0], 1),
        "seconds_to_the_first_task": round(whole[1][0], 1),
        "files_compared": len(expected),
        "runs": runs,
        "identical": not any(run["differ"] for run in runs),
    }


def table(found: dict) -> str:
    """The measurement as text."""
    kept = ", ".join(f"{count:,} {split}" for split, count in found["kept"].items())
    lines = [
        f"{found['inputs']:,} inputs, {found['workers']} workers: {kept} and {sum(found['rejected'].values()):,} rejects "
        f"in {found['shards']} shards of {found['megabytes']} MB in {found['seconds']} s ({found['inputs_a_second']} inputs a second)",
        f"{'kill':>4} {'at s':>7} {'since start s':>13} {'stage':>8} {'parts':>6} {'shards':>6} {'half-written':>12}",
    ]
    for number, kill in enumerate((kill for run in found["runs"] for kill in run["kills"]), start=1):
        lines.append(
            f"{number:>4} {kill['at_seconds']:>7} {kill['since_start']:>13} {kill['stage']:>8} {kill['parts']:>6} {kill['shards']:>6} "
            f"{kill['half_written']:>12}"
        )
    for number, run in enumerate(found["runs"], start=1):
        said = f"DIFFERENT in {', '.join(run['differ'])}" if run["differ"] else f"all {found['files_compared']} files identical"
        lines.append(f"killed, run {number}: {said}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="a new folder for inputs, both runs and their logs")
    parser.add_argument("--clips", type=int, default=10_000, help="inputs")
    parser.add_argument("--distinct", type=int, default=300, help="media files that the inputs are copies of")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    if chosen.workdir.exists():
        parser.error(f"--workdir {chosen.workdir} exists; name a new folder")
    found = measure(chosen.workdir.resolve(), chosen.clips, chosen.distinct, chosen.kills, chosen.workers, chosen.seed)
    print(json.dumps(found) if chosen.json else table(found))
    return 0 if found["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())

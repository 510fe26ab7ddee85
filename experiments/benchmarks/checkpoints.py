#!/usr/bin/env python3
"""How long saving holds up training, beside the same save waited for; and how soon a restart has done its first step.

    python experiments/benchmarks/checkpoints.py [--scratch DIR] [--megabytes 300] [--saves 9] [--restarts 3] [--only save|restart] [--json]

1. A state of --megabytes of float32 in arrays as a transformer has them is saved --saves times in each of two ways, in turn, in one
   process: by `Checkpoints.save`, after which the next step, which donates the state, may be dispatched; and by the same with waiting for
   its end. The blocked time is the first's, and its share is of the second's. The last save is restored and must be what was saved.
2. `videodit train` of the transformer of experiments/local.py, on 48 of its clips, is killed after its first checkpoint. From copies of
   that workdir it is started again --restarts times in each of two ways, in turn: with an empty compile cache, and with the one that the
   start before has left. What counts is the time from the start of the process until the metrics of its first step are written; in it is
   what its ledger of goodput holds of compiling (tracing, and reading the cache, too).

Everything is written to a folder in --scratch (default: the system's) that is removed again. Medians; least to most beside them.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SIDES = ((1024, 4096), (4096, 1024), (1024, 1024))  # of a transformer's matrices


def saving(scratch: Path, megabytes: int, saves: int) -> dict:
    """Seconds of each save, blocked and whole."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from videodit.training.checkpoints import Checkpoints

    shapes, size = [], 0
    while size < megabytes * 10**6:
        shapes.append(SIDES[len(shapes) % len(SIDES)])
        size += 4 * shapes[-1][0] * shapes[-1][1]

    @jax.jit
    def make():
        arrays = {str(n): jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(shapes)}
        return {"params": arrays, "step": jnp.zeros((), jnp.int32)}

    step = jax.jit(lambda state: jax.tree.map(lambda x: x * 1 + 1, state), donate_argnums=0)
    state, checkpoints = jax.block_until_ready(step(make())), Checkpoints(scratch, keep=1)
    blocked, whole = [], []
    for number in range(2 * saves + 2):
        before = np.asarray(state["params"]["0"]).copy()
        begun = time.perf_counter()
        checkpoints.save(state, {"next_index": number})
        if number % 2:
            checkpoints.wait()
        seconds = time.perf_counter() - begun
        if number >= 2:  # the first of each kind compiles
            (whole if number % 2 else blocked).append(seconds)
        saved, state = int(state["step"]), jax.block_until_ready(step(state))
        checkpoints.wait()
    found, _ = checkpoints.restore(state)
    same = bool(np.array_equal(found["params"]["0"], before)) and int(found["step"]) == saved
    checkpoints.close()
    share = statistics.median(blocked) / statistics.median(whole)
    return {"bytes": size, "blocked_seconds": blocked, "whole_seconds": whole, "share": share, "restored_as_saved": same}


def restarting(scratch: Path, restarts: int) -> dict:
    """Seconds to the first step of each start, with an empty compile cache and with a full one, and what of them was compiling."""
    job, base = _job(scratch), scratch / "base"
    with _training(job, base, scratch / "first") as process:
        while process.poll() is None and not any(path.name.isdigit() for path in base.glob("checkpoints/*")):
            time.sleep(0.05)
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for number in range(restarts):
        for name, times in found.items():
            workdir = scratch / f"{name}-{number}"
            shutil.copytree(base, workdir)
            times.append(_first_step(job, workdir, scratch / f"cache-{number}"))
    medians = {name: statistics.median(each["seconds"] for each in times) for name, times in found.items()}
    return found | {"share": medians["warm"] / medians["cold"]}


def _job(scratch: Path) -> list[str]:
    """The flags of the transformer's job, its data made: clips, a VAE that has hardly learnt, latents."""
    config, clips = ROOT / "experiments/local.py", f"--config.data.path={scratch / 'dataset'}"
    few = ["--config.data.worlds.count=48", "--config.data.held_out_count=8", "--config.data.shards=2"]
    _videodit("prepare", f"--config={config}:vae", f"--output={scratch / 'dataset'}", *few)
    _videodit("train", f"--config={config}:vae", clips, f"--workdir={scratch / 'vae'}", "--config.train.steps=2")
    job = [f"--config={config}:dit", clips, f"--config.latents.path={scratch / 'latents'}", f"--config.latents.vae={scratch / 'vae'}"]
    _videodit("encode", *job, f"--workdir={scratch / 'encoding'}")
    return [*job, "--config.train.log_every=1", "--config.train.save_every=1", "--config.sample.count=1", "--config.sample.steps=1"]


def _videodit(*arguments: str) -> None:
    done = subprocess.run(_command(*arguments), capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise SystemExit(f"videodit {' '.join(arguments)}\n{done.stderr[-3000:]}")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "videodit.cli", *arguments]


def _environment() -> dict[str, str]:
    """This process's, without a compile cache that it may name."""
    kept = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name and "PERSISTENT_CACHE" not in name}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


@contextlib.contextmanager
def _training(job: list[str], workdir: Path, cache: Path):
    """`videodit train` at work inside the block; killed at its end."""
    log = workdir.parent / f"{workdir.name}.log"
    command = _command("train", *job, f"--workdir={workdir}", f"--config.train.compile_cache={cache}")
    with open(log, "w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=_environment())
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"videodit train ended by itself:\n{log.read_text()[-3000:]}")


def _first_step(job: list[str], workdir: Path, cache: Path) -> dict[str, float]:
    lines, ledger = workdir / "metrics" / "metrics.jsonl", workdir / "metrics" / "goodput.json"
    compiling = lambda: json.loads(ledger.read_text())["seconds"]["compile"]
    there, before, written, begun = lines.stat().st_size, compiling(), ledger.read_bytes(), time.time()
    with _training(job, workdir, cache) as process:
        while process.poll() is None and ledger.read_bytes() == written:  # which follows the metrics
            time.sleep(0.02)
    first = json.loads(lines.read_bytes()[there:].splitlines()[0])
    return {"seconds": first["time"] - begun, "compiling": compiling() - before}


def table(found: dict) -> str:
    """The measurement for a person."""
    row = "{:<34}  {:>10}  {:>19}  {:>9}".format
    of = lambda seconds: (f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f} to {max(seconds):.3f}")
    lines = []
    if "save" in found:
        save = found["save"]
        lines += [
            row(f"a save of {save['bytes'] / 1e6:.0f} MB", "median (s)", "least to most", "share"),
            row("until the next step may go on", *of(save["blocked_seconds"]), f"{save['share']:.1%}"),
            row("until it is written", *of(save["whole_seconds"]), ""),
            f"restored as saved: {'yes' if save['restored_as_saved'] else 'NO'}",
            "",
        ]
    if "restart" in found:
        restart = found["restart"]
        lines.append(row("first step after a restart", "median (s)", "least to most", "compiling"))
        for name, what in (("cold", "empty compile cache"), ("warm", "warm compile cache")):
            seconds, compiling = ([each[key] for each in restart[name]] for key in ("seconds", "compiling"))
            lines.append(row(what, *of(seconds), f"{statistics.median(compiling):.3f}"))
        lines.append(f"warm / cold: {restart['share']:.1%}")
    return "\n".join(lines).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, help="a folder for what is written; removed again")
    parser.add_argument("--megabytes", type=int, default=300, help="of the state, 10^6 bytes")
    parser.add_argument("--saves", type=int, default=9, help="of each kind")
    parser.add_argument("--restarts", type=int, default=3, help="of each kind")
    parser.add_argument("--only", choices=("save", "restart"), help="one of both")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.scratch and chosen.scratch.resolve()) as scratch:
        found = {}
        if chosen.only != "restart":
            found["save"] = saving(Path(scratch) / "save", chosen.megabytes, chosen.saves)
        if chosen.only != "save":
            found["restart"] = restarting(Path(scratch), chosen.restarts)
    print(json.dumps(found) if chosen.json else table(found))


if __name__ == "__main__":
    main()

"""Run by test_processes.py, once for each of several processes that train one job together.

    python train_in_processes.py CONFIG WORKDIR PORT COUNT INDEX

CONFIG is a workdir's config.json. Prints {"batches": [SHA-256 of each of the first global batches]} of the VAE's job; the transformer's is
trained too: {"batches": [...], "losses": [...], "position": ...}. Where it is told to stop it ends with the status that asks for a restart.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys

import jax

COUNT = int(sys.argv[4])
if COUNT > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", COUNT, int(sys.argv[5]))

from jax.experimental import multihost_utils  # noqa: E402
import numpy as np  # noqa: E402

from videodit.core.errors import RESTART_STATUS, RestartAsked  # noqa: E402
from videodit.sharding.mesh import make_mesh  # noqa: E402
from videodit.training import checkpoint_contents, loop  # noqa: E402
from videodit.training.config import read_experiment  # noqa: E402
from videodit.training.jobs import make_job  # noqa: E402


def digests(config, workdir, steps):
    """The SHA-256 of each global batch as the step would be given it."""
    job, mesh, found = make_job(config, workdir), make_mesh(config.mesh), []
    for _ in range(steps):
        batch = job.to_device(next(job.batches), mesh)
        whole = multihost_utils.process_allgather(batch, tiled=True)
        found.append(hashlib.sha256(b"".join(np.asarray(whole[name]).tobytes() for name in sorted(whole))).hexdigest())
    return found


def main(config, workdir):
    config, workdir = read_experiment(json.loads(pathlib.Path(config).read_text())), pathlib.Path(workdir)
    batches = digests(config, workdir, 6)
    if config.model == "vae":
        print(json.dumps({"batches": batches}))
        return
    make = loop.make_job
    loop.make_job = lambda *args: dataclasses.replace(make(*args), pictures=lambda state, to: None)
    loop.matmul_flops_per_second = lambda: 1.0
    try:
        loop.train(config, workdir)
    except RestartAsked as asked:
        print(asked, file=sys.stderr)
        sys.exit(RESTART_STATUS)
    lines = (workdir / "metrics" / "metrics.jsonl").read_text().splitlines()
    newest = workdir / "checkpoints" / str(checkpoint_contents.finished_steps(workdir)[-1])
    found = {
        "batches": batches,
        "losses": [json.loads(line)["loss"] for line in lines],
        "position": checkpoint_contents.data_position(newest),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""Run by test_training_on_meshes.py in a process of its own: trains on each mesh and prints the losses as JSON.

    python train_on_meshes.py CONFIG SCRATCH '[["NAME", {"data": 8}], ...]'

CONFIG is a workdir's config.json. Prints {"devices": n, "losses": {"NAME": [loss of step 1, ...], ...}}.
"""

import dataclasses
import json
import pathlib
import sys

import jax

from videodit.sharding.mesh import MeshConfig
from videodit.training import loop
from videodit.training.config import read_experiment


def losses(config, workdir):
    """The loss of each step of a training run, with nothing drawn on its way."""
    make_job = loop.make_job
    loop.make_job = lambda *args: dataclasses.replace(make_job(*args), pictures=lambda state, to: None)
    loop.matmul_flops_per_second = lambda: 1.0
    try:
        loop.train(config, workdir)
    finally:
        loop.make_job = make_job
    return [json.loads(line)["loss"] for line in (workdir / "metrics" / "metrics.jsonl").read_text().splitlines()]


def main(config, scratch, meshes):
    config = read_experiment(json.loads(pathlib.Path(config).read_text()))
    found = {
        name: losses(dataclasses.replace(config, mesh=MeshConfig(**mesh)), pathlib.Path(scratch) / name)
        for name, mesh in json.loads(meshes)
    }
    print(json.dumps({"devices": len(jax.devices()), "losses": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])

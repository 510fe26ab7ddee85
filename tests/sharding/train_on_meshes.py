"""Run by test_training_on_meshes.py in a process of its own: trains in each layout and prints the losses as JSON.

    python train_on_meshes.py CONFIG SCRATCH '[["NAME", {"mesh": {"data": 8}}], ...]'

CONFIG is a workdir's config.json, of which each layout replaces fields of sections. It prints
{"devices": n, "losses": {"NAME": [loss of step 1, ...], ...}}.
"""

import dataclasses
import json
import pathlib
import sys

import jax

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


def main(config, scratch, layouts):
    config, found = json.loads(pathlib.Path(config).read_text()), {}
    for name, sections in json.loads(layouts):
        laid = config | {section: config[section] | fields for section, fields in sections.items()}
        found[name] = losses(read_experiment(laid), pathlib.Path(scratch) / name)
    print(json.dumps({"devices": len(jax.devices()), "losses": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])

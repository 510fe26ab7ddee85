"""Run by test_generator.py in a process of its own: clips of the transformer of WORKDIR, made on meshes of 8 devices as on one.

    python sample_on_meshes.py WORKDIR
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import numpy as np  # noqa: E402

from videodit.core.config import read_config  # noqa: E402
from videodit.generation.canvas import of_pieces  # noqa: E402
from videodit.generation.generator import Request  # noqa: E402
from videodit.generation.sample import load_generator  # noqa: E402
from videodit.sharding.mesh import MeshConfig  # noqa: E402
from videodit.training.config import read_experiment  # noqa: E402


def main(workdir):
    config = read_experiment(read_config(workdir))
    canvas = of_pieces(9, (16, 16), [(0, np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8))])
    requests = [
        Request(prompt="a red ball rolls left", frames=5, height=16, width=24, seed=1),
        Request(prompt="a cube", frames=9, height=16, width=16, seed=2, canvas=canvas),
    ]
    clips = load_generator(config, workdir)(requests, config.sample)
    for axes in ({"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 4, "context": 2}):
        generator = load_generator(config, workdir, mesh=MeshConfig(**axes))
        assert generator.mesh.shape["data"] == axes["data"]
        split = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(generator.params)]
        assert any(split) == ("fsdp" in axes)
        for clip, other in zip(clips, generator(requests, config.sample)):
            assert np.abs(clip.astype(int) - other).max() <= 1, axes


if __name__ == "__main__":
    main(sys.argv[1])

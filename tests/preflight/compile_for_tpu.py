"""Run by test_compile.py in a process of its own: compiles a small transformer's step for 16 v5e chips and prints what is in it as JSON."""

import json

from videodit.data.order import PackingConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.vae.config import VAEConfig
from videodit.preflight.compile import collectives, compile_dit_step, topology_devices
from videodit.sharding.mesh import MeshConfig
from videodit.training.config import ExperimentConfig

LENGTH, WIDTH = 1280, 512


def main():
    config = ExperimentConfig(
        model="dit",
        vae=VAEConfig(latent_channels=16),
        dit=DiTConfig(width=WIDTH, depth=3, heads=4, dtype="bfloat16", remat="named"),
        packing=PackingConfig(length=LENGTH, rows=16),
        mesh=MeshConfig(data=1, fsdp=16),
    )
    text = compile_dit_step(config, topology_devices("v5e:4x4")).as_text()
    kernels = text.count('custom_call_target="tpu_custom_call"')
    print(json.dumps({"kernels": kernels, "collectives": collectives(text), "length": LENGTH}))


if __name__ == "__main__":
    main()

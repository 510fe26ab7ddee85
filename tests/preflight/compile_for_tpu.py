"""Run by test_compile.py in a process of its own: compiles a small transformer's step for each kind of TPU, and prints a line of JSON for
each that says what is in it."""

import dataclasses
import json

from videodit.data.order import PackingConfig
from videodit.models.dit.model import DiTConfig
from videodit.models.text.config import TextConfig
from videodit.models.text.refiner import TextRefinerConfig
from videodit.models.vae.config import VAEConfig
from videodit.preflight.compile import compile_train, topology_devices
from videodit.preflight.costs import cycles, hbm_bytes, kernel_calls
from videodit.preflight.hlo import collectives, read_program
from videodit.sharding.mesh import MeshConfig
from videodit.training.config import ExperimentConfig

LENGTH, WIDTH, LAYERS = 1280, 512, 3
# With their devices, of one slice, and the slices; a tpu7x chip is two devices.
TOPOLOGIES = {"v5e:4x4": (16, 1), "v5p:2x2x2": (8, 2), "v6e:4x4": (16, 1), "tpu7x:2x2x2": (16, 1)}


def main():
    for topology, (devices, slices) in TOPOLOGIES.items():
        config = ExperimentConfig(
            model="dit",
            vae=VAEConfig(latent_channels=16),
            text=TextConfig(refiner=TextRefinerConfig(depth=0)),
            dit=DiTConfig(width=WIDTH, depth=LAYERS, heads=4, dtype="bfloat16", remat="named"),
            packing=PackingConfig(length=LENGTH, rows=16, bins=16),
            mesh=MeshConfig(data=slices, fsdp=devices),
        )
        made = compile_train(config, topology_devices(topology, slices))
        program = read_program(made.executable.as_text())
        found = collectives(program, made.mesh)
        told = {
            "topology": topology,
            "slices": slices,
            "kernels": kernel_calls(program),
            "layers": LAYERS,
            "length": LENGTH,
            "collectives": [dataclasses.asdict(each) for each in found],
            "axes": sorted({axis for each in found if not each.dcn for axis in each.axes}),
            "dcn": sum(each.sent for each in found if each.dcn),
            "cycles": cycles(program),
            "bytes": hbm_bytes(program),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

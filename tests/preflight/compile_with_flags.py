"""Run by test_xla_flags.py in a process of its own, for flags are read once: compiles a step for TPUs that are not there.

python compile_with_flags.py TOPOLOGY SLICES
"""

import json
import sys

import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np


def main(topology: str, slices: int) -> None:
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, num_slices=slices).devices
    mesh = Mesh(np.array(devices).reshape(slices, -1), ("data", "fsdp"))
    rows, weights = NamedSharding(mesh, P(("data", "fsdp"))), NamedSharding(mesh, P(None, "fsdp"))

    def loss(layers, x):
        return jnp.sum(jax.lax.scan(lambda x, layer: (jnp.tanh(x @ layer), None), x, layers)[0].astype(jnp.float32) ** 2)

    step = jax.jit(lambda layers, x: layers - jax.grad(loss)(layers, x), in_shardings=(weights, rows), out_shardings=weights)
    shapes = jax.ShapeDtypeStruct((3, 512, 512), jnp.bfloat16), jax.ShapeDtypeStruct((len(devices) * 128, 512), jnp.bfloat16)
    text = step.lower(*shapes).compile().as_text()
    print(json.dumps({"collectives": sum(text.count(f" {kind}") for kind in ("all-gather", "all-reduce", "reduce-scatter"))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

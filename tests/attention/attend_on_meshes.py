"""Run by test_on_meshes.py in a process with 8 devices: attention and its gradients on each mesh, beside those of the reference.

Prints {"BACKEND NAME": largest difference} as JSON.
"""

import json
import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

from videodit.attention import make_plan, packed_attention
from videodit.sharding.mesh import MeshConfig, make_mesh

MESHES = {
    "rows": {"data": 2, "fsdp": 4},
    "heads": {"data": 4, "tensor": 2},
    "queries": {"data": 2, "context": 4},
    "all": {"data": 1, "fsdp": 2, "tensor": 2, "context": 2},
}
ROWS, LENGTH, HEADS, WIDTH = 8, 512, 2, 16


def run(backend, interpret, arrays, ids, gradient):
    def attend(q, k, v):
        return packed_attention(q, k, v, make_plan(ids, backend, interpret=interpret))

    out, back = jax.vjp(attend, *arrays)
    return out, *back(gradient)


def main():
    lengths = np.random.default_rng(0).integers(10, 200, (ROWS, 8))
    ids = np.stack([np.pad(np.repeat(np.arange(1, 9), each), (0, LENGTH))[:LENGTH] for each in lengths]).astype(np.int32)
    real = (ids > 0)[..., None, None]
    arrays = [jax.random.normal(jax.random.key(i), (ROWS, LENGTH, HEADS, WIDTH)) for i in range(3)]
    gradient = jax.random.normal(jax.random.key(3), arrays[0].shape) * real
    wanted = jax.jit(run, static_argnums=(0, 1))("reference", False, arrays, ids, gradient)
    found = {}
    for backend, interpret in (("blocked", False), ("splash", True), ("triton", True)):
        for name, mesh in MESHES.items():
            if backend != "blocked" and name != "all":
                continue  # the layout is the same for all; the interpreter is slow
            with jax.set_mesh(make_mesh(MeshConfig(**mesh))):
                got = jax.jit(run, static_argnums=(0, 1))(backend, interpret, arrays, jnp.asarray(ids), gradient)
            found[f"{backend} {name}"] = max(float(np.abs((np.asarray(a) - np.asarray(b)) * real).max()) for a, b in zip(got, wanted))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

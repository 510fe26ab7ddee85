"""Run by test_on_meshes.py in a process with 8 devices: attention and its gradients on each mesh, beside those of the reference.

Prints as JSON, for each "BACKEND MESH CONTEXT", `differences`, the largest, and `moved`, the collectives that carry vectors of heads.
"""

import functools
import itertools
import json
import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from videodit.attention import make_plan, packed_attention
from videodit.preflight.hlo import collectives, read_program
from videodit.sharding.mesh import MeshConfig, make_mesh
from videodit.sharding.rules import spec_of

MESHES = {
    "rows": {"data": 2, "fsdp": 4},
    "heads": {"data": 4, "tensor": 2},
    "queries": {"data": 2, "context": 4},
    "all": {"data": 1, "fsdp": 2, "tensor": 2, "context": 2},
}
ROWS, LENGTH, HEADS, WIDTH = 8, 512, 4, 16
CONTEXTS = ("gather", "all_to_all", "ring")


def run(backend, context, interpret, arrays, ids, gradient):
    def attend(q, k, v):
        return packed_attention(q, k, v, make_plan(ids, backend, context=context, interpret=interpret))

    out, back = jax.vjp(attend, *arrays)
    return out, *back(gradient)


def lay_out(mesh, x):
    return jax.device_put(x, NamedSharding(mesh, spec_of(("rows", "length", "heads", None)[: x.ndim], x.shape, mesh)))


def main():
    lengths = np.random.default_rng(0).integers(10, 200, (ROWS, 8))
    ids = np.stack([np.pad(np.repeat(np.arange(1, 9), each), (0, LENGTH))[:LENGTH] for each in lengths]).astype(np.int32)
    real = (ids > 0)[..., None, None]
    arrays = [jax.random.normal(jax.random.key(i), (ROWS, LENGTH, HEADS, WIDTH)) for i in range(3)]
    gradient = jax.random.normal(jax.random.key(3), arrays[0].shape) * real
    run_compiled = jax.jit(run, static_argnums=(0, 1, 2))
    wanted = run_compiled("reference", "gather", False, arrays, ids, gradient)
    found, moved = {}, {}
    for backend, name, context in itertools.product(("blocked", "splash", "triton"), MESHES, CONTEXTS):
        if (backend != "blocked" and name != "all") or (context != "gather" and "context" not in MESHES[name]):
            continue  # the layout is the same for all; the interpreter is slow
        mesh = make_mesh(MeshConfig(**MESHES[name]))
        laid = jax.tree.map(functools.partial(lay_out, mesh), (arrays, jnp.asarray(ids), gradient))
        with jax.set_mesh(mesh):
            compiled = run_compiled.lower(backend, context, backend != "blocked", *laid).compile()
            got = compiled(*laid)
        case = f"{backend} {name} {context}"
        found[case] = max(float(np.abs((np.asarray(a) - np.asarray(b)) * real).max()) for a, b in zip(got, wanted))
        moved[case] = sorted({each.kind for each in collectives(read_program(compiled.as_text())) if WIDTH in each.shape})
    print(json.dumps({"differences": found, "moved": moved}))


if __name__ == "__main__":
    main()

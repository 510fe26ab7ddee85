"""Run by test_checkpoints.py in processes of its own: saves a state on a mesh, or restores it on another.

    python save_on_meshes.py save|restore WORKDIR '{"fsdp": 4, "tensor": 2}'

Prints {"values": SHA-256 over all values, "shards": of its matrix, "position": the data position}.
"""

import hashlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from videodit.sharding.mesh import MeshConfig, make_mesh
from videodit.sharding.rules import tree_shardings
from videodit.training.checkpoints import Checkpoints
from videodit.training.state import init_state


class Model:
    axes = {"kernel": ("embed", "mlp")}

    def init(self, key):
        return {"kernel": jax.random.normal(key, (16, 8)), "bias": jnp.ones(3, jnp.bfloat16)}

    def statistics(self):
        return {}


def main(what, workdir, mesh):
    model, checkpoints = Model(), Checkpoints(workdir)
    make = lambda: init_state(model, optax.adam(1e-3), 5) | {"step": jnp.asarray(3, jnp.int32)}
    shapes = jax.eval_shape(make)
    shardings = tree_shardings(shapes, model.axes, make_mesh(MeshConfig(**json.loads(mesh))))
    if what == "save":
        state, position = jax.jit(make, out_shardings=shardings)(), {"next_index": 3}
        checkpoints.save(state, position)
    else:
        like = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), shapes, shardings)
        state, position = checkpoints.restore(like)
        assert jax.tree.all(jax.tree.map(lambda leaf, to: leaf.sharding.is_equivalent_to(to, leaf.ndim), state, shardings))
    checkpoints.close()
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest()
    shards = len({str(shard.index) for shard in state["params"]["kernel"].addressable_shards})
    print(json.dumps({"values": digest, "shards": shards, "position": position}))


if __name__ == "__main__":
    main(*sys.argv[1:])

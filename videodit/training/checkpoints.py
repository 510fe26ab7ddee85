"""Checkpoints: weights, optimizer, average, statistics, step and data position in one atomic orbax step."""

from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from videodit.core.errors import UserError
from videodit.training import checkpoint_contents
from videodit.training.state import State


class Checkpoints:
    """The checkpoints of a workdir. A step is visible once it is whole: a kill while saving leaves the one before it."""

    def __init__(self, workdir: epath.PathLike, keep: int | None = None):
        self._manager = ocp.CheckpointManager(
            (epath.Path(workdir) / "checkpoints").resolve(),  # orbax wants whole paths
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True),
        )

    @property
    def latest(self) -> int | None:
        """The newest whole step, or None."""
        return self._manager.latest_step()

    def save(self, state: State, data: dict[str, Any]) -> None:
        """Saves `state` with the data position `data` (JSON-able), in the background where the state is not in host memory."""
        step = int(state["step"])
        if step == self.latest:
            return
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)))
        if jax.default_backend() == "cpu":
            self._manager.wait_until_finished()  # the next step is given these very buffers to write into

    def restore(self, like: State, step: int | None = None) -> tuple[State, dict[str, Any]]:
        """The state at `step` (the newest by default) and its data position. `like` gives shapes, types and shardings."""
        step = self.latest if step is None else step
        if step is None:
            raise UserError(f"{self._manager.directory} holds no checkpoint")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
        )
        return restored["state"], restored["data"]

    def close(self) -> None:
        """Waits for saving to end."""
        self._manager.close()


def restore_weights(workdir: epath.PathLike, step: int | None = None) -> tuple[dict[str, Any], int]:
    """`{"ema", "statistics"}` of a workdir's newest checkpoint as numpy arrays, and its step; the optimizer is left unread.

    Raises UserError where there is none.
    """
    steps = checkpoint_contents.finished_steps(workdir)
    if not steps:
        raise UserError(f"{epath.Path(workdir)!s} holds no checkpoint: run `videodit train` with this workdir first")
    step = steps[-1] if step is None else step
    path = epath.Path(workdir) / "checkpoints" / str(step)
    wanted = [leaf for leaf in checkpoint_contents.leaves(path) if leaf.name.split("/")[0] in ("ema", "statistics")]
    tree: dict[str, Any] = {"ema": {}, "statistics": {}}
    for name, array in checkpoint_contents.read(path, wanted):
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree, step

"""Checkpoints: weights, optimizer, average, statistics, step and data position in one atomic orbax step."""

from typing import Any

from etils import epath
import jax
import orbax.checkpoint as ocp

from videodit.core.errors import UserError
from videodit.training.state import State


class Checkpoints:
    """The checkpoints of a workdir. A step is visible once it is whole: a kill while saving leaves the one before it."""

    def __init__(self, workdir: epath.PathLike, keep: int | None = None):
        self._manager = ocp.CheckpointManager(
            epath.Path(workdir) / "checkpoints",
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True))

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
        restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()))
        return restored["state"], restored["data"]

    def close(self) -> None:
        """Waits for saving to end."""
        self._manager.close()


def restore_weights(workdir: epath.PathLike, step: int | None = None) -> tuple[dict[str, Any], int]:
    """`{"ema", "statistics"}` of a workdir's newest checkpoint as numpy arrays, and its step; the optimizer is left unread.

    Raises UserError where there is none.
    """
    directory = epath.Path(workdir) / "checkpoints"
    steps = sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit()) if directory.exists() else []
    if not steps:
        raise UserError(f"{epath.Path(workdir)!s} holds no checkpoint: run `videodit train` with this workdir first")
    step = steps[-1] if step is None else step
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = directory / str(step) / "state"
        metadata = checkpointer.metadata(path).item_metadata.tree
        wanted = {name: metadata[name] for name in ("ema", "statistics") if name in metadata}
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=__import__("numpy").ndarray), wanted)
        item = jax.tree.map(lambda leaf: 0, wanted)
        return checkpointer.restore(path, args=ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)), step

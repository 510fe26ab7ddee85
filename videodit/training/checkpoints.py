"""Checkpoints: weights, optimizer, average, statistics, step and data position in one atomic orbax step, written in the background."""

from collections.abc import Callable
import concurrent.futures
import functools
import logging
import math
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from videodit.core.errors import UserError
from videodit.core.files import whole_path
from videodit.training import checkpoint_contents
from videodit.training.checksums import SaveChecksums, by_name, checksums, checksums_on_host
from videodit.training.state import State

Tell = Callable[[str], None]

_say = logging.getLogger(__name__).warning  # where no log of a run is at hand
_COPYING = 2  # threads
_policies = ocp.checkpoint_managers


class Checkpoints:
    """The checkpoints of a workdir. A step is visible once it is whole: a kill while saving leaves the one before it.

    Of the steps stay the `keep` newest (None: all), multiples of `keep_every` and the `keep_best` of lowest score, where these are not 0.
    `tell` takes a line for the log on what was found damaged or half written.
    """

    def __init__(self, workdir: epath.PathLike, keep: int | None = None, keep_every: int = 0, keep_best: int = 0, tell: Tell = _say):
        self._directory, self._tell = whole_path(epath.Path(workdir) / "checkpoints"), tell  # as orbax wants it
        for name in checkpoint_contents.unfinished(workdir):
            tell(f"checkpoint {name} was left half written by a run that ended while saving; it is not used")
        stay = [_policies.LatestN(keep)]
        stay += [_policies.EveryNSteps(keep_every)] if keep_every else []
        stay += [_lowest(keep_best)] if keep_best else []
        self._scored = keep_best > 0
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_policies.AnyPreservationPolicy(stay),
                best_fn=_score if keep_best else None,
                best_mode="min",
                create=True,
                cleanup_tmp_directories=True,
            ),
        )
        self._snapshot = _Snapshot() if jax.default_backend() == "cpu" else None

    @property
    def latest(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def save(self, state: State, data: dict[str, Any], score: float | None = None) -> None:
        """Saves `state` with the data position `data` (JSON-able) and its score, in the background: `state` may be donated right after.

        Raises what the save before it has failed with.
        """
        step = int(state["step"])
        if step in self._manager.all_steps():
            return
        if self._snapshot:
            self._manager.wait_until_finished()  # the save before is made from the snapshot that is written over now
            state = self._snapshot.of(state)
        if self._snapshot and jax.process_count() == 1:  # in the background: they would take the cores from what is waited for
            sums = functools.partial(checksums_on_host, state)
        else:  # before the state is given away, and in the same order on all hosts
            sums = functools.partial(np.asarray, checksums(state))
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        metrics = {"score": score} if self._scored and score is not None and math.isfinite(score) else None
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data),
                checksums=SaveChecksums(sums, like, data),
            ),
            metrics=metrics,
            force=True,  # when to save is the loop's to say
        )

    def wait(self) -> None:
        """Waits for saving to end."""
        self._manager.wait_until_finished()

    def restore(self, like: State, step: int | None = None) -> tuple[State, Any]:
        """The state at `step` and its data position; by default of the newest step that is undamaged, and newer ones are set aside.

        `like` gives shapes, types and shardings, which may be of another mesh than the one that saved.

        Raises UserError where there is none that can be read, or it is of another model.
        """
        self.wait()
        steps = sorted(self._manager.all_steps(), reverse=True) if step is None else [step]
        if not steps:
            raise UserError(f"{self._directory} holds no checkpoint")
        for number in steps:
            found, damage = _attempt(lambda number=number: read_step(self._directory / str(number), like))
            if _everywhere(damage is None):
                return found
            if number == steps[-1]:
                raise UserError(f"{self._directory / str(number)} cannot be read, and no older step is there: {damage or 'by other hosts'}")
            self._set_aside(number, damage or "other hosts could not read it")
        raise AssertionError

    def _set_aside(self, step: int, damage: str) -> None:
        """Moves a damaged step out of the way of saving: nothing is lost should it have been the storage's bad moment."""
        to = self._directory / f"{step}.damaged"  # beside it: an object store has no empty folders to move into
        while to.exists():
            to = to.parent / f"{to.name}-again"
        self._tell(f"checkpoint {step} is damaged, and the one before it is used: {damage}; it was moved to {to}")
        if jax.process_index() == 0:
            (self._directory / str(step)).rename(to)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager.reload()

    def close(self) -> None:
        """Waits for saving to end."""
        self._manager.close()


class _Snapshot:
    """Copies of a state in buffers of its own, which are used again and again. On the CPU what orbax saves from in the background are the
    very buffers that the next step is given to write into; on accelerators it copies them to the host before it returns.

    Leaves are copied by several threads, each an equal part of the bytes: one alone does not reach what memory gives.
    """

    def __init__(self):
        self._threads = concurrent.futures.ThreadPoolExecutor(_COPYING)
        self._parts: list[list[int]] = []

    def of(self, state: State) -> State:
        leaves, structure = jax.tree.flatten(state)
        if not self._parts:
            self._begin(leaves)
        parts = [[leaves[n] for n in part] for part in self._parts]
        self._copies = list(self._threads.map(lambda copy, old, new: copy(old, new), self._copiers, self._copies, parts))
        copied = {n: leaf for part, copies in zip(self._parts, self._copies) for n, leaf in zip(part, copies)}
        return structure.unflatten([copied[n] for n in range(len(leaves))])

    def _begin(self, leaves: list[jax.Array]) -> None:
        by_size = sorted(range(len(leaves)), key=lambda n: -leaves[n].nbytes)
        self._parts = [part for part in (by_size[start::_COPYING] for start in range(_COPYING)) if part]
        self._copies = [[jnp.copy(leaves[n]) for n in part] for part in self._parts]
        copy = lambda old, new: [jnp.copy(leaf) for leaf in new]
        layouts = [[leaves[n].sharding for n in part] for part in self._parts]
        self._copiers = [jax.jit(copy, donate_argnums=0, keep_unused=True, out_shardings=layout) for layout in layouts]


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _lowest(count: int) -> Any:
    return _policies.BestN(get_metric_fn=_score, reverse=True, n=count, keep_checkpoints_without_metrics=False)


def read_step(checkpoint: epath.Path, like: Any) -> tuple[Any, Any]:
    """The state of a checkpoint, laid out as `like`, a part of its tree or all of it, and the data position; sums are checked.

    Raises UserError where it is of another model than `like`, anything else where it is damaged.
    """
    wanted, missing = _match(checkpoint_contents.leaves(checkpoint), like, checkpoint)
    state = checkpoint_contents.restore_like(checkpoint, wanted)
    position, sums = checkpoint_contents.read_position(checkpoint), checkpoint_contents.read_checksums(checkpoint)
    of = checksums_on_host if jax.default_backend() == "cpu" and jax.process_count() == 1 else checksums  # on a CPU nothing is compiled
    _check(by_name(of(state), state, position), sums)
    return state | missing, position


def _check(found: dict[str, int], saved: dict[str, int] | None) -> None:
    wrong = [name for name in found if saved and saved[name] != found[name]]
    if wrong:
        raise ValueError(f"its bits are not those that were saved, in {', '.join(wrong[:3])}{' and more' if len(wrong) > 3 else ''}")


def _match(saved: list[checkpoint_contents.Leaf], like: Any, checkpoint: epath.Path) -> tuple[Any, Any]:
    """(What to read of `like`, what a checkpoint that is older than the guard lacks: its zeros)."""
    shapes = {leaf.name: (leaf.shape, leaf.dtype) for leaf in saved}
    missing = {}
    if "guard" in like and not any(name.startswith("guard/") for name in shapes):
        missing["guard"] = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), like["guard"])
    wanted = {name: part for name, part in like.items() if name not in missing}
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = checkpoint_contents.name_of(path)
        if name not in shapes:
            raise UserError(f"{checkpoint!s} has no {name}: it is of another model or optimizer; start.take says what to take of it")
        if shapes[name] != (here := (leaf.shape, str(leaf.dtype))):
            told = [f"{dtype} {'x'.join(map(str, shape)) or 'scalar'}" for shape, dtype in (shapes[name], here)]
            raise UserError(f"{checkpoint!s} has {name} as {told[0]}, and the config's is {told[1]}: it is of another model")
    return wanted, missing


def _attempt(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """(What `read` gives, None), or (None, what damage it met)."""
    try:
        return read(), None
    except (UserError, MemoryError, jax.errors.JaxRuntimeError, ConnectionError, TimeoutError, PermissionError):
        raise  # no fault of the checkpoint
    except Exception as error:  # whatever damage makes the libraries raise
        text = str(error)
        if any(status in text for status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED", "UNAUTHENTICATED")):
            raise
        return None, f"{type(error).__name__}: {text.splitlines()[0][:300] if text else 'no words'}"


def _everywhere(fine: bool) -> bool:
    """Whether all processes say so."""
    return fine if jax.process_count() == 1 else bool(np.all(multihost_utils.process_allgather(np.asarray(fine))))


def restore_weights(workdir: epath.PathLike, step: int | None = None) -> tuple[dict[str, Any], int]:
    """`{"ema", "statistics"}` of a workdir's newest undamaged checkpoint as numpy arrays, and its step; the optimizer is left unread.

    Raises UserError where there is none.
    """
    steps = checkpoint_contents.finished_steps(workdir)
    if not steps:
        raise UserError(f"{epath.Path(workdir)!s} holds no checkpoint: run `videodit train` with this workdir first")
    for number in reversed(steps) if step is None else [step]:
        path = epath.Path(workdir) / "checkpoints" / str(number)
        found, damage = _attempt(lambda path=path: _as_numpy(path, ("ema", "statistics")))
        if damage is None:
            return found, number
        _say(f"{path} is damaged: {damage}")
    raise UserError(f"{epath.Path(workdir) / 'checkpoints'!s} holds no checkpoint that can be read")


def _as_numpy(checkpoint: epath.Path, parts: tuple[str, ...]) -> dict[str, Any]:
    wanted = [leaf for leaf in checkpoint_contents.leaves(checkpoint) if leaf.name.split("/")[0] in parts]
    tree: dict[str, Any] = {part: {} for part in parts}
    sums = checkpoint_contents.read_checksums(checkpoint)
    for name, array in checkpoint_contents.read(checkpoint, wanted):
        _check({name: int(checksums_on_host([array])[0])}, sums)
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree

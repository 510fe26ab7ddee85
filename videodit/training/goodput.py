"""Goodput: the share of a run's wall time that went into steps which count, and where the rest went, over kills and restarts."""

import json
import threading
import time

from etils import epath
import jax

from videodit.core.files import write_atomically

# `useful` is the goodput. `restart`: from the last log point before an end to the first step after it, and steps done again; `start`:
# before the first step of all; `skipped`: steps that were skipped or rolled back.
KINDS = ("useful", "start", "compile", "data", "checkpoint", "sampling", "restart", "skipped")

_COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_compiled: dict[int, float] = {}  # seconds by thread
_listening = False


def _listen() -> None:
    """Counts what each thread spends on compiling, from now on: JAX forgets no listener."""
    global _listening

    def add(event: str, seconds: float, **_: object) -> None:
        if event in _COMPILING:
            _compiled[threading.get_ident()] = _compiled.get(threading.get_ident(), 0.0) + seconds

    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(add)
        _listening = True


class Goodput:
    """A ledger of wall time, begun where the run's earlier process left it in the file `path`. Each second lies in one of `KINDS`.

    The thread that makes it is the one whose time is counted. Nothing is read or written where `quiet`.
    """

    def __init__(self, path: epath.PathLike, quiet: bool = False):
        _listen()
        self._path, self._quiet, self._thread = epath.Path(path), quiet, threading.get_ident()
        self._mark, self._compiled_before = time.perf_counter(), _compiled.get(self._thread, 0.0)
        self._seconds, self._steps, self._reached = dict.fromkeys(KINDS, 0.0), 0, 0
        if not quiet and self._path.exists():
            self._take_over(json.loads(self._path.read_text()))

    def _take_over(self, left: dict) -> None:
        self._seconds |= {kind: left["seconds"].get(kind, 0.0) for kind in KINDS}
        self._steps, self._reached = left["steps"], left["reached"]
        if not left["finished"]:
            self._seconds["restart"] += max(time.time() - left["time"], 0.0)

    def spent(self, kind: str, steps: int = 0) -> None:
        """Books the time since the call before as `kind`, less what went into compiling; `steps` have been finished in it."""
        now, compiled = time.perf_counter(), _compiled.get(self._thread, 0.0)
        seconds, compiling = now - self._mark, compiled - self._compiled_before
        self._mark, self._compiled_before = now, compiled
        compiling = min(compiling, seconds)  # traces lie in one another, and each is told
        self._seconds["compile"] += compiling
        self._seconds[kind] += seconds - compiling
        self._steps += steps

    def begin(self, step: int) -> None:
        """The first step after `step` is about to be done: steps beyond it that an earlier process has done were lost with it."""
        self.spent("restart" if self._steps else "start")
        self.lose(self._reached - step, "restart")

    def lose(self, steps: int, kind: str) -> None:
        """Books the time of so many finished steps as `kind`, at their mean."""
        steps = min(max(steps, 0), self._steps)
        seconds = steps * self._seconds["useful"] / self._steps if steps else 0.0
        self._seconds["useful"] -= seconds
        self._seconds[kind] += seconds
        self._steps -= steps

    def shares(self) -> dict[str, float]:
        """`goodput`, and `lost/KIND` for the rest of the wall time, all of which make one."""
        total = max(sum(self._seconds.values()), 1e-9)
        return {"goodput" if kind == "useful" else f"lost/{kind}": seconds / total for kind, seconds in self._seconds.items()}

    def write(self, step: int, finished: bool = False) -> None:
        """Leaves the ledger for the next process; `step` is reached. After a run that is `finished`, what passes is no loss."""
        if not self._quiet:
            self._reached = step
            left = {"seconds": self._seconds, "steps": self._steps, "reached": step, "time": time.time(), "finished": finished}
            write_atomically(self._path, json.dumps(left))

    def line(self) -> str:
        """For the log: `goodput 91.2 %, compile 5.1 %, ...`, what is under a thousandth left out."""
        told = [(name.removeprefix("lost/"), share) for name, share in self.shares().items() if share >= 1e-3 or name == "goodput"]
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in told)

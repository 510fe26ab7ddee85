"""When a run is told to stop: a SIGTERM, as schedulers send it before they take a machine away."""

from collections.abc import Iterator
import contextlib
import signal
import threading

import jax
from orbax.checkpoint import multihost

from videodit.core.errors import RestartAsked


class StopSignal:
    """Says after which step to stop, inside its `with`. Of several hosts one may have been told: all stop after the same step.

    Where `jax.distributed` runs, its own service hears SIGTERM and agrees on the step; it asks for `asked` after every step on every host.
    """

    def __init__(self):
        self._told, self._before, self._steps = threading.Event(), None, 0

    def __enter__(self) -> "StopSignal":
        # Signals can be heard by the main thread alone; a run in another one is stopped by its process.
        self._listens = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._told.set())
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def asked(self) -> bool:
        """Whether to stop after this step; to be called once a step."""
        self._steps += 1  # and not the step's number, which a roll-back takes back
        return self._told.is_set() if jax.process_count() == 1 else multihost.reached_preemption(self._steps)


@contextlib.contextmanager
def restart_when_told() -> Iterator[None]:
    """A SIGTERM inside of it raises RestartAsked: for what may stop anywhere, since all that is finished is kept."""

    def stop(*_: object) -> None:
        raise RestartAsked("told to stop, it keeps what is finished: the same command goes on from there")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not one of Python's

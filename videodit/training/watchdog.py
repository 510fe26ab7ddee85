"""A thread that ends a process whose steps do not finish any more."""

from collections.abc import Callable
import faulthandler
import os
import tempfile
import threading
import time

from videodit.core.errors import RESTART_STATUS


class Watchdog:
    """Inside its `with`, ends the process with `RESTART_STATUS` where `seconds` pass without a call of `alive`; 0 for never.

    Before that `tell` is given the stacks of all threads. A device that waits for another host hangs without an error: this is what frees
    the machines for the launcher to start again.
    """

    def __init__(self, seconds: float, tell: Callable[[str], None]):
        self._seconds, self._tell = seconds, tell
        self._last, self._ended = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.alive()
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._seconds:
            self._thread.join()

    def alive(self) -> None:
        """A sign of life: a step has finished, or something else that takes its time begins or has ended."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while (left := self._last + self._seconds - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        try:
            self._tell(f"no step has finished for {self._seconds:g} s: the process ends, to be started again. Its stacks:\n{stacks()}")
        finally:  # the storage that the log is on may be what hangs; it must have an end even so
            os._exit(RESTART_STATUS)


def stacks() -> str:
    """The stacks of all threads of this process, as `faulthandler` writes them."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()

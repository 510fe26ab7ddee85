"""Runs tasks: in processes of this machine, or as an Apache Beam pipeline on any of Beam's runners.

A task's function keeps its result in storage, whole or not at all, and gives the same when it is done again. So it is the same function
whichever runner executes it, and a kill loses no task that was finished.
"""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import faulthandler
import multiprocessing
import os
import threading
import time
from typing import Any, Protocol

from etils import epath

from videodit.core.errors import UserError

# `call(function, *arguments, limit=None)` calls a function, in a process of its own where the runner can, which ends after `limit` seconds.
Call = Callable[..., Any]
# `work(task, call)` does a task.
Work = Callable[[Any, Call], None]


class CrashError(RuntimeError):
    """The process that a function was called in has ended without an answer, e.g. by a fault in a decoder."""


class HungError(CrashError):
    """The process has ended because the function took longer than its limit."""


class Runner(Protocol):
    """Executes tasks."""

    def run(self, work: Work, tasks: Sequence[Any], directory: epath.PathLike) -> Iterator[int]:
        """Does all tasks and yields the place of each in `tasks` once it is done; `directory` is theirs for what a runner must hand over.

        Raises what the first task that fails raises.
        """


@dataclasses.dataclass(frozen=True)
class Local:
    """So many processes of this machine, each with a guard; one works in this very process and without it."""

    workers: int = 1

    def run(self, work: Work, tasks: Sequence[Any], directory: epath.PathLike) -> Iterator[int]:
        del directory
        if self.workers <= 1:
            for place, task in enumerate(tasks):
                work(task, _here)
                yield place
            return
        own, made = threading.local(), []

        def do(task: Any) -> None:
            if not hasattr(own, "apart"):
                own.apart = Apart()
                made.append(own.apart)
            work(task, own.apart)

        pool = concurrent.futures.ThreadPoolExecutor(min(self.workers, len(tasks) or 1))
        try:
            futures = {pool.submit(do, task): place for place, task in enumerate(tasks)}
            for future in concurrent.futures.as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for apart in made:
                apart.close()


@dataclasses.dataclass(frozen=True)
class Beam:
    """A Beam pipeline; `options` are Beam's own, e.g. `--runner=DataflowRunner`. All tasks are said to be done once the pipeline is.

    Raises:
      UserError: where the options name no runner, Beam does not take them, or it is not installed.
    """

    options: tuple[str, ...]

    def __post_init__(self):
        if not any(each.split("=")[0] == "--runner" for each in self.options):  # Beam itself passes over what it does not know
            raise UserError(f"Beam's options {' '.join(self.options)} name no --runner, e.g. --runner=DirectRunner")

    def run(self, work: Work, tasks: Sequence[Any], directory: epath.PathLike) -> Iterator[int]:
        try:
            from videodit.data import beam
        except ImportError as error:
            raise UserError(f"{' '.join(self.options)} needs Apache Beam: pip install 'videodit[prepare]'") from error
        if tasks:
            beam.run(work, tasks, directory, self.options)
        yield from range(len(tasks))


def _here(function: Callable[..., Any], *arguments: Any, limit: float | None = None) -> Any:
    del limit  # this process would end with the function
    return function(*arguments)


class Apart:
    """Calls functions in one process of its own, which is started again where it was brought down."""

    def __init__(self):
        self._pool = None

    def __call__(self, function: Callable[..., Any], *arguments: Any, limit: float | None = None) -> Any:
        """Returns what the function returns, or raises what it raises. `limit` is in seconds.

        Raises:
          CrashError: where its process has ended; HungError where that was for the limit.
        """
        began = time.monotonic()
        if self._pool is None:
            # No fork: the parent holds threads.
            self._pool = concurrent.futures.ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent
            )
        try:
            return self._pool.submit(_within, limit, function, *arguments).result()
        except BrokenProcessPool as error:
            self.close()
            if limit and time.monotonic() - began >= limit:
                raise HungError(f"{getattr(function, '__qualname__', function)} took longer than {limit:g} s") from error
            raise CrashError(f"the process of {getattr(function, '__qualname__', function)} has crashed") from error

    def close(self) -> None:
        """Ends the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _within(limit: float | None, function: Callable[..., Any], *arguments: Any) -> Any:
    if not limit:
        return function(*arguments)
    # Its watchdog is a thread of the C library, which a decoder that never gives the interpreter back cannot hold up.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)
        try:
            return function(*arguments)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _follow_parent() -> None:
    """Ends this process when its parent is killed."""

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

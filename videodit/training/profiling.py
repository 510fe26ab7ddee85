"""A trace of some steps, as XProf and TensorBoard's profile plugin open it."""

from collections.abc import Iterator
import contextlib
import os
from typing import Any

from etils import epath
import jax


class Profile:
    """Traces `steps` steps from `first` on into `directory`; nothing where `steps` is 0. A run that begins among them traces the rest."""

    def __init__(self, directory: epath.PathLike, first: int, steps: int):
        self._directory, self._steps, self._running = os.fspath(directory), range(first, first + steps), False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the dispatch of a step; in a trace it bears the step's number."""
        if number in self._steps and not self._running:
            jax.profiler.start_trace(self._directory)
            self._running = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def dispatched(self, number: int, result: Any) -> None:
        """After the dispatch of a step with this result: the trace ends once its last one has been computed."""
        if self._running and number + 1 not in self._steps:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that runs."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

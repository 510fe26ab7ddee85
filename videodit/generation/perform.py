"""Many tasks at once: the windows that they ask for share rows, whatever their sizes."""

from collections.abc import Callable, Generator, Iterable, Iterator
import dataclasses
from dataclasses import dataclass
import functools

import numpy as np

from videodit.generation.generator import Generator as ClipGenerator
from videodit.generation.generator import Made, Request
from videodit.generation.plans import Trained, before, plan
from videodit.generation.tasks import Task
from videodit.generation.windows import Parts, Plan, Whole, finished, making
from videodit.training.config import SampleConfig

AT_ONCE = 2  # times the generator's rows: the more tasks to choose from, the fuller rows are
FILLED = 0.85  # of rows, by patches; text takes the rest

Keep = Callable[[int, int], Parts]  # (number of a task, 0 or 1: what it is made of, itself) -> where its parts are kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """Where the task of a number stands. `window` uint8 `[t, H, W, 3]`: what was made just now, None where all was there already. `plan`
    and `parts`: None while that is made of which its clip is. `whole`: nothing is left to make."""

    number: int
    window: np.ndarray | None
    plan: Plan | None
    parts: Parts | None
    whole: bool


def trained_of(generator: ClipGenerator, settings: SampleConfig) -> Trained:
    """What plans ask of a generator, where clips are made with these settings."""
    return Trained.of(generator, settings.fps, settings.sizes[0])


def windows_of(task: Task, trained: Trained) -> int:
    """How many windows a task takes. Raises UserError where it cannot be done."""
    first = before(task, trained)
    if first is None:
        return len(plan(task, trained).windows)
    return len(plan(first, trained).windows) + 1


class _UnderWay:
    """A task that asks for one window after another: `request` is the next, None where none is left."""

    def __init__(self, number: int, task: Task, trained: Trained, reach: int, parts_of: Callable[[int], Parts]):
        self.number = number
        self.plan: Plan | None = None
        self.parts: Parts | None = None
        self._steps = self._run(task, trained, reach, parts_of)
        self.request = next(self._steps, None)

    def _run(self, task: Task, trained: Trained, reach: int, parts_of: Callable[[int], Parts]) -> Generator[Request, Made, None]:
        base, first = None, before(task, trained)
        if first is not None:
            of, parts = plan(first, trained), parts_of(0)
            yield from making(of, parts, reach)
            base = Whole(of, parts)
        self.plan, self.parts = plan(task, trained, base), parts_of(1)
        yield from making(self.plan, self.parts, reach)

    def take(self, made: Made) -> None:
        """What was asked for."""
        try:
            self.request = self._steps.send(made)
        except StopIteration:
            self.request = None

    def progress(self, window: np.ndarray | None) -> Progress:
        return Progress(number=self.number, window=window, plan=self.plan, parts=self.parts, whole=self.request is None)


def perform(
    generator: ClipGenerator, tasks: Iterable[Task], settings: SampleConfig, keep: Keep = lambda number, stage: {}
) -> Iterator[Progress]:
    """Makes the clips of tasks and tells of each window, and of each clip as soon as it is whole, for `windows.finished`.

    As many tasks are under way as fill the generator's rows `AT_ONCE` times; each has one window at a time.
    """
    trained, reach = trained_of(generator, settings), max(generator.vae.model.config.stride[1:])
    waiting = enumerate(tasks)
    under_way: list[_UnderWay] = []
    copies = 2 if settings.guidance.acts else 1

    def full() -> bool:
        tokens = [copies * generator.tokens(each.request) for each in under_way]
        return sum(tokens) >= FILLED * AT_ONCE * generator.rows * max([generator.row_length, *tokens])

    while True:
        while not full():
            number, task = next(waiting, (None, None))
            if task is None:
                break
            task = task if task.negative is not None else dataclasses.replace(task, negative=settings.negative)
            begun = _UnderWay(number, task, trained, reach, functools.partial(keep, number))
            if begun.request is None:
                yield begun.progress(None)
            else:
                under_way.append(begun)
        if not under_way:
            return
        windows = generator.make([each.request for each in under_way], settings)
        for each, window in zip(under_way, windows):
            each.take(window)
        yield from (each.progress(window.clip) for each, window in zip(under_way, windows))
        under_way = [each for each in under_way if each.request is not None]


def generate(generator: ClipGenerator, *tasks: Task, settings: SampleConfig | None = None) -> list[np.ndarray]:
    """The clips of tasks, uint8 `[T, H, W, 3]`, in their order. `settings`: by default the generator's own.

    Raises UserError where a task cannot be done.
    """
    clips = {
        each.number: np.stack(list(finished(each.plan, each.parts)))
        for each in perform(generator, tasks, settings or generator.settings)
        if each.whole
    }
    return [clips[number] for number in range(len(tasks))]

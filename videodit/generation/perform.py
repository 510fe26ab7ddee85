"""Many tasks at once: the windows that they ask for share rows, whatever their sizes."""

from collections.abc import Callable, Generator, Iterable, Iterator
import dataclasses

import numpy as np

from videodit.generation.generator import Generator as ClipGenerator
from videodit.generation.generator import Request
from videodit.generation.tasks import Task, Trained, before, plan
from videodit.generation.windows import Parts, Plan, finished, making
from videodit.training.config import SampleConfig

AT_ONCE = 2  # times the generator's rows: the more tasks to choose from, the fuller rows are
FILLED = 0.85  # of rows, by patches; text takes the rest

Keep = Callable[[int, int], Parts]  # (number of a task, 0 or 1: what it is made of, itself) -> where its parts are kept
Steps = Generator[Request, np.ndarray, tuple[Plan, Parts]]


def trained_of(generator: ClipGenerator, settings: SampleConfig) -> Trained:
    """What plans ask of a generator, where clips are made with these settings."""
    return Trained.of(generator, settings.fps, settings.sizes[0])


def windows_of(task: Task, trained: Trained) -> int:
    """How many windows a task takes. Raises UserError where it cannot be done."""
    first = before(task, trained)
    if first is None:
        return len(plan(task, trained).windows)
    return len(plan(first, trained).windows) + 1


def perform(
    generator: ClipGenerator,
    tasks: Iterable[Task],
    settings: SampleConfig,
    keep: Keep = lambda number, stage: {},
    made: Callable[[int, np.ndarray], None] = lambda number, clip: None,
) -> Iterator[tuple[int, Plan, Parts]]:
    """Makes the clips of tasks and yields each as soon as it is whole: its number, its plan and its parts, for `windows.finished`.

    As many tasks are under way as fill the generator's rows `AT_ONCE` times; each has one window at a time. `made(number, clip)` is called
    after each.
    """
    trained, reach = trained_of(generator, settings), max(generator.vae.model.config.stride[1:])
    waiting = enumerate(tasks)
    under_way: list[tuple[int, Steps, Request]] = []
    copies = 2 if settings.guidance.acts else 1

    def begin(number: int, task: Task) -> tuple[Plan, Parts] | None:
        task = task if task.negative is not None else dataclasses.replace(task, negative=settings.negative)
        return go_on(number, _steps(task, trained, reach, keep, number), None)

    def go_on(number: int, steps: Steps, clip: np.ndarray | None) -> tuple[Plan, Parts] | None:
        try:
            under_way.append((number, steps, steps.send(clip)))
        except StopIteration as end:
            return end.value
        return None

    def full() -> bool:
        tokens = [copies * generator.tokens(request) for _, _, request in under_way]
        return sum(tokens) >= FILLED * AT_ONCE * generator.rows * max([generator.row_length, *tokens])

    while True:
        while not full():
            following = next(waiting, None)
            if following is None:
                break
            whole = begin(*following)
            if whole is not None:
                yield following[0], *whole
        if not under_way:
            return
        now, under_way = under_way, []
        clips = generator([request for _, _, request in now], settings)
        ends = []
        for (number, steps, _), clip in zip(now, clips):
            made(number, clip)
            whole = go_on(number, steps, clip)
            if whole is not None:
                ends.append((number, *whole))
        yield from ends


def _steps(task: Task, trained: Trained, reach: int, keep: Keep, number: int) -> Steps:
    base, first = None, before(task, trained)
    if first is not None:
        of, parts = plan(first, trained), keep(number, 0)
        yield from making(of, parts, reach)
        base = np.stack(list(finished(of, parts)))
    whole, parts = plan(task, trained, base), keep(number, 1)
    yield from making(whole, parts, reach)
    return whole, parts


def generate(generator: ClipGenerator, *tasks: Task, settings: SampleConfig | None = None) -> list[np.ndarray]:
    """The clips of tasks, uint8 `[T, H, W, 3]`, in their order. `settings`: by default the generator's own.

    Raises UserError where a task cannot be done.
    """
    done = perform(generator, tasks, settings or generator.settings)
    clips = {number: np.stack(list(finished(of, parts))) for number, of, parts in done}
    return [clips[number] for number in range(len(tasks))]

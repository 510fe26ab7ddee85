"""Clips to files: each with a JSON beside it of all that it takes to make it again. What is there already is not made again."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import json
import os
import re
import tempfile
from typing import Any

from etils import epath
import numpy as np

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.core.files import is_remote, publish, write_atomically
from videodit.data import media
from videodit.data.video_writer import VideoWriter, finish
from videodit.evaluation.pictures import beside, strip
from videodit.generation.generator import Generator
from videodit.generation.inputs import digest
from videodit.generation.perform import Progress, perform, trained_of, windows_of
from videodit.generation.plans import Trained
from videodit.generation.tasks import Task, describe, read_task
from videodit.generation.windows import Finished, PartFiles, Parts, Plan, finished
from videodit.training.config import SampleConfig

_PARTS = ".parts"  # after an output's name: the folder of its parts while it is made
_PREVIEW_FRAMES = 8


def read_prompts(path: epath.PathLike, default: Task) -> list[Task]:
    """The tasks of a file: `.txt`, a prompt a line; `.jsonl`, a task a line; `.json`, what lies beside an output. What a line does not say
    is as in `default`; seeds count up from its seed where a line has none. Inputs are as seen from where the program runs.

    Raises UserError naming the line that is no task.
    """
    path = epath.Path(path)
    if not path.exists():
        raise UserError(f"prompts {str(path)!r} is not there: expected a .txt, .jsonl or .json file")
    text, tasks = path.read_text(), []
    if path.suffix == ".json":
        return [read_task(_object(text, path, 1).get("task", {}), default)]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        seeded = dataclasses.replace(default, seed=default.seed + len(tasks))
        try:
            tasks.append(
                read_task(_object(line, path, number), seeded)
                if path.suffix == ".jsonl"
                else dataclasses.replace(seeded, prompt=line.strip())
            )
        except UserError as error:
            raise UserError(f"{path!s}, line {number}: {error}") from error
    if not tasks:
        raise UserError(f"prompts {str(path)!r} is empty: expected a prompt or a task a line")
    return tasks


def read_storyboard(path: epath.PathLike) -> tuple[tuple[float, str], ...]:
    """Scenes of a file, `SECONDS PROMPT` a line. Raises UserError naming the line that is none."""
    path, scenes = epath.Path(path), []
    if not path.exists():
        raise UserError(f"storyboard {str(path)!r} is not there: expected a file with SECONDS PROMPT a line")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        seconds, _, prompt = line.strip().partition(" ")
        if not line.strip():
            continue
        try:
            scenes.append((float(seconds), prompt.strip()))
        except ValueError:
            raise UserError(f"{path!s}, line {number} is {line.strip()!r}, expected SECONDS PROMPT, e.g. 4 a ball rolls") from None
    if not scenes:
        raise UserError(f"storyboard {str(path)!r} is empty: expected SECONDS PROMPT a line")
    return tuple(scenes)


def _object(line: str, path: epath.Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path!s}, line {number} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path!s}, line {number} is no object, expected e.g. {{'prompt': 'a ball rolls'}}")
    return found


def name_of(task: Task, size: tuple[int, int]) -> str:
    """A file's name without its suffix: prompt, size and seed."""
    words = task.prompt or (task.storyboard[0][1] if task.storyboard else "")
    slug = re.sub(r"[^0-9a-z]+", "-", words.lower()).strip("-")[:60] or ("sample" if task.task == "text" else task.task)
    return f"{slug}-{size[1]}x{size[0]}-{task.seed}"


def write_clips(
    generator: Generator,
    tasks: Sequence[Task],
    settings: SampleConfig,
    folder: epath.PathLike,
    names: Sequence[str],
    *,
    preview: bool = False,
    show: Callable[[str, int, int], None] | None = None,
) -> Iterator[epath.Path]:
    """Makes the clips of tasks and yields the path of each as soon as it is written, `folder/NAME.mp4`, or `.png` of one frame.

    `NAME.json` beside it says task, settings, model and inputs; what is there with the same words is yielded first and not made again.
    Other clips are never written over: where one has the name, it is `NAME-2`. Equal tasks are one clip.
    Windows of clips under way are kept in `NAME.parts/`, from which a killed run goes on; `NAME.parts/clip.mp4` plays what is finished of a
    clip, and grows. `preview`: `NAME.preview.png` shows some frames, from the first window on. `show(stage, done, total)` is told of each
    window.

    Raises UserError before anything is made where a task cannot be done or the folder cannot be written to.
    """
    folder = epath.Path(folder)
    _check_folder(folder)
    trained = trained_of(generator, settings)
    records = [_record(task, settings, generator) for task in tasks]
    counts = _counts(tasks, trained)
    names = _free_names(folder, names, records)
    left: dict[str, tuple[Task, _Output]] = {}
    for task, name, record, count in zip(tasks, names, records, counts):
        there = _there(folder, name, record)
        if there is not None:
            yield there
        elif name not in left:
            left[name] = task, _Output(folder, name, record, windows=count, fps=settings.fps, preview=preview)
    to_make, outputs = [task for task, _ in left.values()], [output for _, output in left.values()]
    done, total = 0, sum(output.windows for output in outputs)
    with contextlib.ExitStack() as under_way:
        for output in outputs:
            under_way.enter_context(output)
        for progress in perform(generator, to_make, settings, lambda number, stage: outputs[number].parts(stage)):
            output = outputs[progress.number]
            output.take(progress)
            if progress.window is not None:
                done += 1
                if show is not None:
                    show("sample", done, total)
            if progress.whole:
                yield output.end(progress)


class _Output(contextlib.AbstractContextManager):
    """A clip on its way to its files. One of several windows keeps parts, and a video that grows, in a folder, which goes at the end."""

    def __init__(self, folder: epath.Path, name: str, record: dict[str, Any], *, windows: int, fps: float, preview: bool):
        self.name, self.windows = name, windows
        self._folder, self._record, self._fps, self._preview = folder, record, fps, preview
        self._kept = folder / f"{name}{_PARTS}"
        self._shots: list[np.ndarray] = []
        self._video: _Growing | None = None

    def parts(self, stage: int) -> Parts:
        """Where parts are kept: of what the clip is made of (0), and its own (1)."""
        if self.windows == 1:
            return {}
        if not (self._kept / "task.json").exists():
            write_atomically(self._kept / "task.json", json.dumps(self._record))
        return PartFiles(self._kept / str(stage))

    def take(self, progress: Progress) -> None:
        """Another window has been made."""
        if self._preview and progress.window is not None:
            self._shots.append(progress.window[len(progress.window) // 2])
            self._shots = self._shots if len(self._shots) <= 2 * _PREVIEW_FRAMES else self._shots[::2]
            self._show(beside(self._shots))
        if progress.plan is not None and self.windows > 1:
            if self._video is None:
                self._video = _Growing(self._kept, Finished(progress.plan, progress.parts), self._fps)
            self._video.grow()

    def end(self, progress: Progress) -> epath.Path:
        """The clip is whole: returns its file."""
        of, parts = progress.plan, progress.parts
        path = self._folder / f"{self.name}.mp4"
        if self._video is not None:
            self._video.publish(path)
        elif of.frames == 1:
            path = media.write(path, np.stack(list(finished(of, parts))), self._fps)
        else:
            write_atomically(path, media.encode_stream(finished(of, parts), self._fps))
        if self._preview:
            self._show(_strip(of, parts))
        told = {"output": path.name, "frames": of.frames, "height": of.size[0], "width": of.size[1], "fps": self._fps}
        write_atomically(self._folder / f"{self.name}.json", json.dumps(self._record | told, indent=2) + "\n")
        self._kept.rmtree(missing_ok=True)
        return path

    def _show(self, picture: np.ndarray) -> None:
        write_atomically(self._folder / f"{self.name}.preview.png", media.encode_image(picture))

    def __exit__(self, *error) -> None:
        if self._video is not None:
            self._video.__exit__(*error)


class _Growing(contextlib.AbstractContextManager):
    """A clip's video while it is made: `clip.mp4` in the folder of its parts, or somewhere on this machine where that is remote."""

    def __init__(self, folder: epath.Path, frames: Finished, fps: float):
        self._files = contextlib.ExitStack()
        local = self._files.enter_context(tempfile.TemporaryDirectory()) if is_remote(folder) else str(folder)
        self._growing, self._finished = (os.path.join(local, name) for name in ("clip.mp4", "finished.mp4"))
        self._frames, self._video = frames, self._files.enter_context(VideoWriter(self._growing, fps, growing=True))

    def grow(self) -> None:
        """Writes the frames that have become final."""
        for frame in self._frames:
            self._video.write(frame)

    def publish(self, path: epath.Path) -> None:
        """Puts the finished video where it is to be."""
        with self:
            self._video.close()
            finish(self._growing, self._finished)
            publish(self._finished, path)

    def __exit__(self, *error) -> None:
        self._files.__exit__(*error)


def _check_folder(folder: epath.Path) -> None:
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"output {str(folder)!r} cannot be written to ({error.strerror or error}): name another folder") from error


def _counts(tasks: Sequence[Task], trained: Trained) -> list[int]:
    """The windows of each task. Raises UserError where one cannot be done, and of several says which."""
    counts = []
    for number, task in enumerate(tasks, 1):
        try:
            counts.append(windows_of(task, trained))
        except UserError as error:
            raise UserError(f"task {number} of {len(tasks)}, {task.task}: {error}" if len(tasks) > 1 else str(error)) from error
    return counts


def _record(task: Task, settings: SampleConfig, generator: Generator) -> dict[str, Any]:
    chosen = ("solver", "steps", "guidance", "negative", "shift", "fps", "history_noise")
    record = {
        "task": describe(task),
        "settings": {name: value for name, value in to_dict(settings).items() if name in chosen},
        "model": generator.identity,
        "inputs": [digest(source) for source in (*task.inputs, task.mask) if source is not None],
    }
    return json.loads(json.dumps(record))


def _same(path: epath.Path, record: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError:
        return False
    return all(found.get(key) == value for key, value in record.items())


def _free_names(folder: epath.Path, names: Sequence[str], records: Sequence[dict[str, Any]]) -> list[str]:
    """The names, with numbers after those under which another clip is there, or under way."""
    there = {path.name for path in folder.iterdir()}
    taken: dict[str, dict[str, Any]] = {}

    def fits(name: str, record: dict[str, Any]) -> bool:
        if name in taken:
            return taken[name] == record
        if f"{name}.json" in there:
            return _same(folder / f"{name}.json", record)
        return f"{name}{_PARTS}" not in there or _same(folder / f"{name}{_PARTS}" / "task.json", record)

    for name, record in zip(names, records):
        choice, number = name, 1
        while not fits(choice, record):
            number += 1
            choice = f"{name}-{number}"
        taken[choice] = record
    chosen = {json.dumps(record): name for name, record in taken.items()}
    return [chosen[json.dumps(record)] for record in records]


def _there(folder: epath.Path, name: str, record: dict[str, Any]) -> epath.Path | None:
    beside_it = folder / f"{name}.json"
    if not _same(beside_it, record):
        return None
    output = folder / json.loads(beside_it.read_text()).get("output", "")
    return output if output.is_file() else None


def _strip(of: Plan, parts: Parts) -> np.ndarray:
    chosen = set(np.linspace(0, of.frames - 1, min(_PREVIEW_FRAMES, of.frames)).round().astype(int).tolist())
    shots = np.stack([frame for number, frame in enumerate(finished(of, parts)) if number in chosen])
    return strip(shots, len(shots))

"""Clips to files: each with a JSON beside it of all that it takes to make it again. What is there already is not made again."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import json
import re
from typing import Any

from etils import epath
import numpy as np

from videodit.core.config import to_dict
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media
from videodit.evaluation.pictures import beside, strip
from videodit.generation.generator import Generator
from videodit.generation.inputs import digest
from videodit.generation.perform import perform, trained_of, windows_of
from videodit.generation.tasks import Task, describe, read_task
from videodit.generation.windows import PartFiles, Parts, Plan, finished
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
    Other clips are never written over: where one has the name, it is `NAME-2`.
    Windows of clips under way are kept in `NAME.parts/`, from which a killed run goes on. `preview`: `NAME.preview.png` shows some frames,
    from the first window on. `show(stage, done, total)` is told of each window.

    Raises UserError before anything is made where a task cannot be done or the folder cannot be written to.
    """
    folder = epath.Path(folder)
    _check_folder(folder)
    trained = trained_of(generator, settings)
    records = [_record(task, settings, generator) for task in tasks]
    counts = [windows_of(task, trained) for task in tasks]
    names = _free_names(folder, names, records)
    left = []
    for number, (name, record) in enumerate(zip(names, records)):
        there = _there(folder, name, record)
        if there is None:
            left.append(number)
        else:
            yield there
    done, total = 0, sum(counts[number] for number in left)
    shots: dict[int, list[np.ndarray]] = {}

    def parts_of(place: int, stage: int) -> Parts:
        number = left[place]
        return _parts(folder, names[number], records[number], stage) if counts[number] > 1 else {}

    def made(place: int, clip: np.ndarray) -> None:
        nonlocal done
        done += 1
        if show is not None:
            show("sample", done, total)
        if preview:
            shots.setdefault(place, []).append(clip[len(clip) // 2])
            shots[place] = shots[place] if len(shots[place]) <= 2 * _PREVIEW_FRAMES else shots[place][::2]
            write_atomically(folder / f"{names[left[place]]}.preview.png", media.encode_image(beside(shots[place])))

    for place, of, parts in perform(generator, [tasks[number] for number in left], settings, parts_of, made):
        number = left[place]
        path = _write(folder, names[number], of, parts, settings.fps)
        if preview:
            write_atomically(folder / f"{names[number]}.preview.png", media.encode_image(_strip(of, parts)))
        told = {"output": path.name, "frames": of.frames, "height": of.size[0], "width": of.size[1], "fps": settings.fps}
        write_atomically(folder / f"{names[number]}.json", json.dumps(records[number] | told, indent=2) + "\n")
        (folder / f"{names[number]}{_PARTS}").rmtree(missing_ok=True)
        yield path


def _check_folder(folder: epath.Path) -> None:
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"output {str(folder)!r} cannot be written to ({error.strerror or error}): name another folder") from error


def _record(task: Task, settings: SampleConfig, generator: Generator) -> dict[str, Any]:
    chosen = ("solver", "steps", "guidance", "negative", "shift", "fps")
    record = {
        "task": describe(task),
        "settings": {name: value for name, value in to_dict(settings).items() if name in chosen},
        "model": generator.identity,
        "inputs": [digest(source) for source in task.inputs],
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


def _parts(folder: epath.Path, name: str, record: dict[str, Any], stage: int) -> Parts:
    """Where parts of a clip are kept."""
    place = folder / f"{name}{_PARTS}"
    if not (place / "task.json").exists():
        write_atomically(place / "task.json", json.dumps(record))
    return PartFiles(place / str(stage))


def _write(folder: epath.Path, name: str, of: Plan, parts: Parts, fps: float) -> epath.Path:
    if of.frames == 1:
        return media.write(folder / name, np.stack(list(finished(of, parts))), fps)
    return write_atomically(folder / f"{name}.mp4", media.encode_stream(finished(of, parts), fps))


def _strip(of: Plan, parts: Parts) -> np.ndarray:
    chosen = set(np.linspace(0, of.frames - 1, min(_PREVIEW_FRAMES, of.frames)).round().astype(int).tolist())
    shots = np.stack([frame for number, frame in enumerate(finished(of, parts)) if number in chosen])
    return strip(shots, len(shots))



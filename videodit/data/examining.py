"""Examines every input once: what it is, which clips lie in it, or why it cannot be used.

What was found is kept below `OUTPUT/examined/`, so that a later run examines only what is new or has changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import concurrent.futures
import dataclasses
import hashlib
import json
from typing import Any

from etils import epath

from videodit.core.config import to_json
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data.curate import CurateConfig, examine
from videodit.data.inputs import Input, digest
from videodit.data.runners import Call, CrashError, HungError, Runner
from videodit.data.stills import MediaError

FOLDER = "examined"
_ALL = "all.jsonl"
# A task is so many inputs, or fewer where they are few or large: what a kill may cost, what all workers share, and what is worth a file.
_TASK_INPUTS = 32
_TASK_BYTES = 64_000_000
_TASKS = 256
_THREADS = 16  # that read small files, which remote stores answer slowly

# {"name", "bytes", "modified", "sha256", "reason": None or text, "examination": as JSON or None}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    inputs: tuple[Input, ...]
    curate: CurateConfig
    limit: float  # seconds an input
    path: str  # of the rows


def examine_all(
    inputs: Mapping[str, Input],
    output: epath.PathLike,
    curate: CurateConfig,
    runner: Runner,
    progress: Callable[[int, int], None] | None = None,
    limit: float = 3600.0,
) -> dict[str, Row]:
    """Returns a row for every input, by name; `progress` is called with (inputs done, inputs in all).

    An input that takes longer than `limit` seconds is given up, where the runner examines in other processes.
    """
    # Rows that were made with other settings are of no use, and stay apart until the dataset is claimed for these.
    settings = hashlib.sha256(to_json(curate).encode()).hexdigest()[:16]
    folder = epath.Path(output) / FOLDER / settings
    rows, parts = _read(folder, inputs)
    todo = [each for name, each in inputs.items() if name not in rows]
    tasks = [_Task(inputs=group, curate=curate, limit=limit, path=str(folder / _part_name(group))) for group in _groups(todo)]
    done = len(rows)
    for place in runner.run(_work, tasks, output):
        done += len(tasks[place].inputs)
        if progress:
            progress(done, len(inputs))
    if tasks or parts:
        rows, parts = _read(folder, inputs)
        write_atomically(folder / _ALL, "".join(json.dumps(rows[name]) + "\n" for name in inputs))
        for part in parts:
            part.unlink()
    return {name: rows[name] for name in inputs}


def examine_input(one: Input, curate: CurateConfig) -> Row:
    """Examines one input; whatever is wrong with it is the row's reason.

    Raises:
      UserError: where no input can be examined, e.g. for want of a package.
    """
    row = _row(one)
    try:
        with one.source() as source:
            row["sha256"] = digest(source)
            row["examination"] = examine(source, curate).to_json()
    except MediaError as error:
        row["reason"] = str(error)
    except OSError as error:  # of the system where it has a number, else of a decoder
        row["reason"] = f"cannot be read: {error.strerror}" if error.errno else str(error)
    except UserError:  # of the config or the installation, and so of every input
        raise
    except Exception as error:  # whatever else a decoder may raise, one input must not end the run
        row["reason"] = f"{type(error).__name__}: {error}"
    return row


def _work(task: _Task, call: Call) -> None:
    rows = [_examine_guarded(one, task, call) for one in task.inputs]
    write_atomically(task.path, "".join(json.dumps(row) + "\n" for row in rows))


def _examine_guarded(one: Input, task: _Task, call: Call) -> Row:
    for _ in range(2):  # once may be the machine's fault, e.g. for want of memory
        try:
            return call(examine_input, one, task.curate, limit=task.limit)
        except HungError:
            return _row(one) | {"reason": f"given up after {task.limit:g} s"}
        except CrashError:
            continue
    return _row(one) | {"reason": "the decoder crashed on it"}


def _row(one: Input) -> Row:
    return {"name": one.name, "bytes": one.bytes, "modified": one.modified, "sha256": "", "reason": None, "examination": None}


def _groups(inputs: Sequence[Input]) -> Iterator[tuple[Input, ...]]:
    most = max(1, min(_TASK_INPUTS, len(inputs) // _TASKS))
    group, size = [], 0
    for one in inputs:
        if group and (len(group) == most or size + one.bytes > _TASK_BYTES):
            yield tuple(group)
            group, size = [], 0
        group.append(one)
        size += one.bytes
    if group:
        yield tuple(group)


def _part_name(group: Sequence[Input]) -> str:
    said = json.dumps([(one.name, one.bytes, one.modified) for one in group])
    return f"part-{hashlib.sha256(said.encode()).hexdigest()[:16]}.jsonl"


def _read(folder: epath.Path, inputs: Mapping[str, Input]) -> tuple[dict[str, Row], list[epath.Path]]:
    """Returns the rows that are still true of `inputs`, and the parts that they are gathered from."""
    parts, rows = sorted(folder.glob("part-*.jsonl")), {}
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        texts = pool.map(lambda path: path.read_text(), [folder / _ALL, *parts] if (folder / _ALL).exists() else parts)
    for text in texts:
        for line in text.splitlines():
            row = json.loads(line)
            one = inputs.get(row["name"])
            if one and (one.bytes, one.modified) == (row["bytes"], row["modified"]):
                rows[row["name"]] = row
    return rows, parts

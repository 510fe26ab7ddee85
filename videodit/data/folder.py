"""A folder of media files: what lies in it, its captions, and a check of every file that decodes it whole."""

from collections.abc import Callable, Iterator
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import hashlib
import json
import os
import time
from typing import Any

from etils import epath

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media, shards

CAPTIONS = "captions.jsonl"
REJECTS = "rejects.jsonl"
_CHECKS = "checks.jsonl"
_SAVE_EVERY_S = 5.0

# {"file", "bytes", "modified", "reason": None or text, "record": format, height, width, frames, fps}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The `files` of a folder, `{path in it: (bytes, time modified)}`, and their `captions`.

    `rejects` are lines of the captions that cannot be used, `{"file", "reason"}`.
    """

    folder: str
    files: dict[str, tuple[int, int]]
    captions: dict[str, str]
    rejects: list[dict[str, str]]

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any file's name or length, and with any caption."""
        said = [sorted((file, stat[0]) for file, stat in self.files.items()), sorted(self.captions.items())]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def find(folder: epath.PathLike, besides: epath.PathLike | None = None) -> Inputs:
    """Lists a folder and all below it in a fixed order; hidden files and the directory `besides` are no inputs.

    Raises:
      UserError: where the folder does not exist.
    """
    root = epath.Path(folder)
    if not root.is_dir():
        raise UserError(f"data.folder {str(folder)!r} is not a folder, expected one that holds media files")
    output = epath.Path(besides) if besides else None
    files = {}
    for path in _walk(root, output):
        name = path.relative_to(root).as_posix()
        if name != CAPTIONS:
            stat = path.stat()
            files[name] = (stat.length, int(stat.mtime))
    captions, rejects = _captions(root / CAPTIONS, files)
    return Inputs(folder=str(folder), files=dict(sorted(files.items())), captions=captions, rejects=rejects)


def _walk(folder: epath.Path, without: epath.Path | None) -> Iterator[epath.Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path == without:
            continue
        if not path.is_dir():
            yield path
        elif not os.path.islink(path):  # a link to a folder may lead round in a circle
            yield from _walk(path, without)


def check_all(inputs: Inputs, output: epath.Path, workers: int, progress: Callable[[str, int, int], None] | None = None) -> list[Row]:
    """Decodes every file once and returns a row for each, in the order of `inputs.files`.

    The rows are kept in `output`, so that a later run checks only what is new or has changed.
    """
    path = output / _CHECKS
    rows = {row["file"]: row for row in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    rows = {
        file: rows[file] for file, stat in inputs.files.items() if file in rows and (rows[file]["bytes"], rows[file]["modified"]) == stat
    }
    todo = [file for file in inputs.files if file not in rows]
    saved = time.monotonic()
    for file, result in _check_files(inputs.folder, todo, workers):
        rows[file] = {"file": file, "bytes": inputs.files[file][0], "modified": inputs.files[file][1], **result}
        if time.monotonic() - saved > _SAVE_EVERY_S:
            _save(path, rows)
            saved = time.monotonic()
        if progress:
            progress("check", len(rows), len(inputs.files))
    if todo:
        _save(path, rows)
    return [rows[file] for file in inputs.files]


def write_rejects(output: epath.Path, rejects: list[dict[str, str]]) -> None:
    """Writes `rejects.jsonl`: one line `{"file", "reason"}` for each input that was left out, by name."""
    lines = sorted(rejects, key=lambda each: (each["file"], each["reason"]))
    write_atomically(output / REJECTS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def check_file(folder: str, file: str) -> dict[str, Any]:
    """Decodes one file and returns {"reason": None or why not, "record": what a record says of it}."""
    try:
        file.encode()
        info = media.check(epath.Path(folder) / file)
    except media.MediaError as error:
        return {"reason": str(error), "record": None}
    except UnicodeEncodeError:
        return {"reason": "the file's name is not UTF-8", "record": None}
    except OSError as error:
        return {"reason": f"cannot be read: {error.strerror or error}", "record": None}
    except Exception as error:  # whatever else a decoder may raise, one file must not end the run
        return {"reason": f"{type(error).__name__}: {error}", "record": None}
    return {
        "reason": None,
        "record": {
            "format": info.format,
            "height": info.height,
            "width": info.width,
            "frames": info.frames,
            "fps": info.fps,
        },
    }


def _check_files(folder: str, files: list[str], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if workers <= 1 or len(files) <= 1:
        yield from ((file, check_file(folder, file)) for file in files)
        return
    left = dict.fromkeys(files)
    while left:
        try:
            with shards.process_pool(min(workers, len(left))) as pool:
                futures = {pool.submit(check_file, folder, file): file for file in left}
                for future in concurrent.futures.as_completed(futures):
                    result = future.result()
                    del left[futures[future]]
                    yield futures[future], result
        except BrokenProcessPool:
            # A file has brought a decoder down, and with it the pool. Files are taken in order, so it is one of the
            # first without a result; a process for each of them costs only the culprit.
            for file in list(left)[: 2 * workers + 2]:
                del left[file]
                yield file, _check_alone(folder, file)


def _check_alone(folder: str, file: str) -> dict[str, Any]:
    with shards.process_pool(1) as pool:
        try:
            return pool.submit(check_file, folder, file).result()
        except BrokenProcessPool:
            return {"reason": "the decoder crashed on it", "record": None}


def _save(path: epath.Path, rows: dict[str, Row]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows.values()))


def _captions(path: epath.Path, files: dict[str, Any]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Returns ({file: caption}, lines that cannot be used)."""
    captions, rejects = {}, []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            file, caption = row["file"], row["caption"]
            if not isinstance(file, str) or not isinstance(caption, str):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            rejects.append({"file": f"{CAPTIONS}, line {number}", "reason": 'not a line {"file": name, "caption": text}'})
            continue
        if file not in files:
            rejects.append({"file": file, "reason": f"{CAPTIONS} names it, but it does not exist"})
        elif file in captions:
            rejects.append({"file": f"{CAPTIONS}, line {number}", "reason": f"a second caption for {file}"})
        else:
            captions[file] = caption
    return captions, rejects

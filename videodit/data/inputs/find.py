"""Finds the inputs that `data.inputs` names, in a fixed order; what cannot be one is a reject with its reason."""

from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses
import os
import re

from etils import epath

from videodit.core.errors import UserError
from videodit.core.files import is_remote
from videodit.data.inputs import tables, tars
from videodit.data.inputs.input import Input

CAPTIONS = "captions.jsonl"
_WILD = re.compile(r"[*?\[]")
_EXPECTED = "expected a folder, a gs:// prefix, a glob, a list (.txt), a table (.jsonl, .csv, .parquet) or tars (.tar)"
# Remote stores answer slowly, and many questions at once.
_THREADS = 16
_AT_ONCE = 10_000

Reject = tars.Reject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs by name, sorted, and `rejects`, `{"file", "reason"}`: tars, lines and captions that cannot be used."""

    files: dict[str, Input]
    rejects: list[Reject]


@dataclasses.dataclass(frozen=True)
class _Found:
    """A path that is an input, or a tar of inputs. `called`: what a line of a list is called."""

    name: str
    path: epath.Path
    captions: dict[str, str] = dataclasses.field(default_factory=dict)
    called: str = ""


def find(location: epath.PathLike, besides: epath.PathLike | None = None) -> Inputs:
    """Lists the inputs at `location`; nothing is opened but lists, tables, captions and tars.

    Names are paths in the folder (or below what is fixed of a glob), paths as a list or table writes them, and for a member of a tar
    the tar's name, a slash and the member's. Relative paths of a list or table are relative to it. In a folder, hidden files and the
    directory `besides` are no inputs, and `captions.jsonl` holds captions.

    Raises:
      UserError: where there is no such place, or it is of no kind that is known.
    """
    path, rejects = epath.Path(location), []
    if path.is_dir():
        found = _folder(path, epath.Path(besides) if besides else None)
    elif path.exists() and path.suffix.lower() in tables.SUFFIXES:
        found = _listed(path, rejects)
    elif path.exists() and path.suffix.lower() == ".tar":
        found = [_Found(path.name, path)]
    elif _WILD.search(os.fspath(path)):
        found = _glob(path, epath.Path(besides) if besides else None)
    else:
        raise UserError(f"data.inputs {os.fspath(location)!r} {'is a file' if path.exists() else 'does not exist'}, {_EXPECTED}")
    files: dict[str, Input] = {}
    for each, (inputs, reasons) in zip(found, _open_all(found)):
        rejects += reasons
        for made in inputs:
            if (name := _printable(made.name)) != made.name:
                rejects.append({"file": name, "reason": "its name is not UTF-8"})
            elif made.name in files:
                rejects.append({"file": each.called or made.name, "reason": f"{made.name} a second time"})
            else:
                files[made.name] = made
    if path.is_dir():
        rejects += _captions(path / CAPTIONS, files)
    return Inputs(files=dict(sorted(files.items())), rejects=rejects)


def _folder(root: epath.Path, besides: epath.Path | None) -> list[_Found]:
    names = sorted((path.relative_to(root).as_posix(), path) for path in _walk(root, besides))
    return [_Found(name, path) for name, path in names if name != CAPTIONS]


def _walk(folder: epath.Path, besides: epath.Path | None) -> Iterator[epath.Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path == besides:
            continue
        if not path.is_dir():
            yield path
        elif not os.path.islink(path):  # a link to a folder may lead round in a circle
            yield from _walk(path, besides)


def _glob(pattern: epath.Path, besides: epath.Path | None) -> list[_Found]:
    if "**" in os.fspath(pattern):
        raise UserError(
            f"data.inputs {os.fspath(pattern)!r} holds '**', expected '*' in single names, or a folder, which takes all below it"
        )
    fixed = next(parent for parent in pattern.parents if not _WILD.search(os.fspath(parent)))
    paths = fixed.glob(pattern.relative_to(fixed).as_posix())
    found = {
        path.relative_to(fixed).as_posix(): path
        for path in paths
        if not path.is_dir() and not path.name.startswith(".") and (besides is None or besides not in path.parents)
    }
    return [_Found(name, found[name]) for name in sorted(found)]


def _listed(table: epath.Path, rejects: list[Reject]) -> list[_Found]:
    found = []
    for called, file, captions, reason in tables.lines(table):
        if reason is not None:
            rejects.append({"file": file or called, "reason": reason})
        else:
            found.append(_Found(file, epath.Path(file) if is_remote(file) else table.parent / file, captions, called))
    return found


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _open_all(found: Sequence[_Found]) -> Iterator[tuple[list[Input], list[Reject]]]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(found), _AT_ONCE):
            yield from pool.map(_open, found[start : start + _AT_ONCE])


def _open(found: _Found) -> tuple[list[Input], list[Reject]]:
    """Returns the inputs at a path: itself, or the members of a tar."""
    try:
        if found.path.suffix.lower() == ".tar":
            return tars.members(found.path, found.name)
        if found.path.is_dir():
            return [], [{"file": found.name, "reason": "a folder, expected a file"}]
        stat = found.path.stat()
        if not is_remote(found.path) and not os.path.isfile(found.path):
            return [], [{"file": found.name, "reason": "a pipe, socket or device, expected a file"}]
    except FileNotFoundError:
        return [], [{"file": found.name, "reason": "it does not exist"}]
    except (OSError, ValueError) as error:  # ValueError: a null byte in a path
        return [], [{"file": found.name, "reason": f"cannot be read: {getattr(error, 'strerror', None) or error}"}]
    made = Input(name=found.name, path=str(found.path), bytes=stat.length, modified=int(stat.mtime), captions=found.captions)
    return [made], []


def _captions(path: epath.Path, files: dict[str, Input]) -> list[Reject]:
    """Adds the captions of a folder to its files, and returns the lines that cannot be used."""
    rejects, seen = [], set()
    for called, file, captions, reason in tables.lines(path) if path.exists() else ():
        if reason is None and not captions:
            reason = "it holds no caption"
        if reason is not None:
            rejects.append({"file": called, "reason": reason})
        elif file not in files:
            rejects.append({"file": file, "reason": f"{CAPTIONS} names it, but it does not exist"})
        elif file in seen:
            rejects.append({"file": called, "reason": f"a second caption for {file}"})
        else:
            seen.add(file)
            files[file] = dataclasses.replace(files[file], captions=files[file].captions | captions)
    return rejects

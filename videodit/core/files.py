"""Whole-file writes that a kill cannot leave half done."""

import os

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """Does `path` lie in an object store (`gs://...`), which publishes a write only once it is whole?"""
    return "://" in os.fspath(path)


def whole_path(path: epath.PathLike) -> epath.Path:
    """`path` from the root on; that of an object store is whole as it is, and `resolve` would take it for a local one."""
    path = epath.Path(path)
    return path if is_remote(path) else path.resolve()


def write_atomically(path: epath.PathLike, content: str | bytes) -> epath.Path:
    """Writes `content` (text as UTF-8) to `path`, local or `gs://`: readers see the old file or the new one, never a part.

    Parent directories are made. Returns the path.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return path
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def publish(local: epath.PathLike, path: epath.PathLike) -> epath.Path:
    """Moves a whole local file to `path`, local on the same disk or `gs://`, over what was there, and has it on the disk. Returns it."""
    local, path = epath.Path(local), epath.Path(path)
    if is_remote(path):
        local.copy(path, overwrite=True)
        local.unlink()
    else:
        _sync(local)
        os.replace(local, path)
        _sync(path.parent)
    return path


def _sync(path: epath.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

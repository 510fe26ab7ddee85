"""WebDataset tars: members are read where they lie, captions come from the .txt and .json members of the same sample.

A sample is the members that share a path up to the first dot of the file name (the WebDataset format, github.com/webdataset/webdataset).
"""

from collections.abc import Mapping
import json
import posixpath
import tarfile
from typing import Any

from etils import epath

from videodit.data.inputs.captions import CaptionError, captions_of
from videodit.data.inputs.input import Input

_CAPTIONS = (".txt", ".json")
# A caption member is read whole while listing; what is larger than this is no caption.
_LONGEST_CAPTION = 1 << 20

Reject = dict[str, str]  # {"file", "reason"}


def members(path: epath.Path, name: str) -> tuple[list[Input], list[Reject]]:
    """Returns the media members of a tar, called `name/member`, and what cannot be used of it.

    Members whose file name begins with a dot are no inputs. A tar that breaks off gives the members before.
    """
    stat = path.stat()
    media, captions, rejects = [], {}, []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                base = posixpath.basename(member.name)
                if not member.isfile() or base.startswith("."):
                    continue
                own = f"{name}/{member.name}"
                if posixpath.splitext(base)[1].lower() in _CAPTIONS:
                    text = tar.extractfile(member).read() if member.size <= _LONGEST_CAPTION else b""
                    captions[member.name] = _read(own, text, rejects)
                else:
                    media.append((member.name, own, member.offset_data, member.size))
    except tarfile.TarError as error:
        rejects.append({"file": name, "reason": f"the tar cannot be read{' on' if media else ''}: {error}"})
    beside, used = _Beside(captions), set()
    found = []
    for member, own, offset, size in media:
        names = beside.of(member)
        used.update(names)
        said = {kind: text for each in names for kind, text in (captions[each] or {}).items()}
        found.append(Input(name=own, path=str(path), bytes=size, modified=int(stat.mtime), offset=offset, captions=said))
    alone = (each for each in captions if each not in used and captions[each] is not None)
    return found, rejects + [{"file": f"{name}/{each}", "reason": "captions with no media beside them"} for each in alone]


class _Beside:
    """Finds the caption members of a media member: those of its sample, the ones with all of its name but the last suffix first."""

    def __init__(self, captions: Mapping[str, Any]):
        self._by_stem: dict[str, list[str]] = {}
        for member in sorted(captions):
            self._by_stem.setdefault(posixpath.splitext(member)[0], []).append(member)

    def of(self, member: str) -> list[str]:
        folder, base = posixpath.split(member)
        sample = posixpath.join(folder, base.split(".")[0])
        return self._by_stem.get(posixpath.splitext(member)[0]) or self._by_stem.get(sample) or []


def _read(name: str, content: bytes, rejects: list[Reject]) -> dict[str, str] | None:
    """Returns a member's captions by kind, or None after a line in `rejects`."""
    try:
        text = content.decode()
        if name.lower().endswith(".txt"):
            return {"original": text.strip()} if text.strip() else {}
        row = json.loads(text)
        if not isinstance(row, dict):
            raise CaptionError(f"it is a {type(row).__name__}, expected an object")
        return captions_of(row)
    except (ValueError, CaptionError) as error:
        rejects.append({"file": name, "reason": f"no captions can be read from it: {error}"})
        return None

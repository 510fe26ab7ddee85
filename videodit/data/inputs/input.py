"""One input: a media file, or a member of a tar, with the captions that came with it."""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import os
import tempfile

from etils import epath

from videodit.core.files import is_remote
from videodit.data.stills import MediaError, Source

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """Where the bytes of an input are, and what is said of them.

    Attributes:
      name: unique and stable; what a record's key and a reject's line call it.
      path: of the file, local or `gs://`, or of the tar that holds it.
      bytes: its length.
      modified: when the file (or the tar) was last written, in seconds since 1970.
      offset: where in the tar its bytes begin; None for a file of its own.
      captions: by kind.
    """

    name: str
    path: str
    bytes: int
    modified: int
    offset: int | None = None
    captions: dict[str, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def source(self) -> Iterator[Source]:
        """Gives the input as `media` takes it: a local path (of a copy where the file is remote), or a member's bytes.

        Raises:
          MediaError: where a member or a remote file cannot be read.
        """
        with contextlib.ExitStack() as stack:
            try:
                source = self._fetch(stack)
            except OSError as error:
                raise MediaError(f"cannot be read: {error.strerror or error}") from error
            yield source

    def _fetch(self, stack: contextlib.ExitStack) -> Source:
        if self.offset is not None:
            with epath.Path(self.path).open("rb") as tar:
                tar.seek(self.offset)
                content = tar.read(self.bytes)
            if len(content) != self.bytes:
                raise MediaError(f"cut short: {len(content)} of {self.bytes} bytes")
            return content
        if not is_remote(self.path):
            return self.path
        copy = os.path.join(stack.enter_context(tempfile.TemporaryDirectory(prefix="videodit-")), "input")
        epath.Path(self.path).copy(copy)
        return copy


def digest(source: Source) -> str:
    """Returns the SHA-256 of what `Input.source` gives, as 64 hex digits."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    found = hashlib.sha256()
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()

"""Records that cannot be read while training: skipped, counted, told once each, and too many of them stop the run."""

from collections.abc import Callable
import threading
from typing import TypeVar

from videodit.core.errors import UserError

T = TypeVar("T")

# Before this many have been read, a share of them says little.
_FROM = 100


class BadRecords:
    """Counts records of this process, from any thread.

    `share` is the largest share of records read that may be bad; `count` and `last` say how many were, and why the last one was.
    """

    def __init__(self, share: float = 0.01):
        self.share, self.read, self.count, self.last = share, 0, 0, ""
        self._lock, self._told, self._lines = threading.Lock(), set(), []

    def attempt(self, key: Callable[[], str], read: Callable[[], T]) -> T | None:
        """What `read` gives, or None where it fails. `key` names the record.

        Raises UserError where too many have failed.
        """
        found, failed = None, None
        try:
            found = read()
        except Exception as error:  # whatever a broken record makes a decoder raise
            failed = error
        with self._lock:
            self.read += 1
            if failed is not None:
                name = key()
                self.count, self.last = self.count + 1, f"{name}: {type(failed).__name__}: {failed}"
                if name not in self._told:
                    self._told.add(name)
                    self._lines.append(f"skipped a record that cannot be read: {self.last}")
            if self.read >= _FROM and self.count > self.share * self.read:
                raise UserError(
                    f"{self.count} of {self.read} records could not be read, more than the share train.bad_share={self.share:g}; "
                    f"the last: {self.last}"
                )
        return found

    def lines(self) -> list[str]:
        """What is new since the last call, a line for each record."""
        with self._lock:
            found, self._lines = self._lines, []
        return found

"""One line that says how far a long piece of work is."""

from collections.abc import Callable
import sys
import time


def progress_line() -> Callable[[str, int, int], None]:
    """Returns `show(stage, done, total)`, which keeps one line on stderr with a rate and a time to go."""
    began: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, before = began.setdefault(stage, (now, done))
        rate = (done - before) / (now - start) if now > start else 0.0
        pace = f", {rate:,.1f}/s, {round((total - done) / rate):,} s to go" if rate else ""
        print(f"\r\x1b[2K{stage}: {done:,}/{total:,}{pace}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show

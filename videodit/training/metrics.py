"""Where a run's numbers go: TensorBoard, a line of JSON a log point, a log file, and a progress line on a terminal."""

import json
import os
import sys
import time
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.files import is_remote


def matmul_flops_per_second(side: int = 1536, repeats: int = 5) -> float:
    """The best rate that a plain float32 matrix product of `side` reaches here, over `repeats`: what a step is measured against."""
    a = jnp.ones((side, side), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


class MetricsWriter:
    """Writes `workdir/metrics/`: TensorBoard events and `metrics.jsonl`; nothing where `quiet`. A step that is written twice counts as
    written last."""

    def __init__(self, workdir: epath.PathLike, quiet: bool = False):
        self._events = self._lines = None
        if quiet:
            return
        self._directory = epath.Path(workdir) / "metrics"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._events = _summary_writer()(os.fspath(self._directory))
        self._lines = open(self._directory / "metrics.jsonl", "a") if not is_remote(self._directory) else None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one log point."""
        for name, value in values.items() if self._events else ():
            self._events.add_scalar(name, value, step)
        if self._lines:
            self._lines.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
            self._lines.flush()

    def close(self) -> None:
        if self._events:
            self._events.close()
        if self._lines:
            self._lines.close()


def _summary_writer() -> type:
    """TensorBoard's writer. It imports PyTorch where that is there, for which a start would wait for seconds; it works without."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # an import of it fails
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


class Log:
    """`workdir/log.txt`, and the terminal where there is one: a progress line that is rewritten, and lines that stay; nothing where
    `quiet`."""

    def __init__(self, workdir: epath.PathLike, quiet: bool = False):
        self._file, self._open_line, self._quiet = None, False, quiet
        if quiet:
            return
        directory = epath.Path(workdir)
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(directory / "log.txt", "a") if not is_remote(directory) else None

    def line(self, text: str) -> None:
        """A line for the log and for whoever looks on."""
        if self._quiet:
            return
        if self._open_line:
            print(file=sys.stderr)
            self._open_line = False
        print(text, file=sys.stderr, flush=True)
        self._keep(text)

    def progress(self, text: str) -> None:
        """A line for the log; on a terminal it replaces the one before it, elsewhere it is not shown."""
        if self._quiet:
            return
        if sys.stderr.isatty():
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
            self._open_line = True
        self._keep(text)

    def _keep(self, text: str) -> None:
        if self._file:
            self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            self._file.flush()

    def close(self) -> None:
        if self._open_line:
            print(file=sys.stderr)
        if self._file:
            self._file.close()


def mean_of(points: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each metric over the steps that have a number for it, read from the devices; none where no step has."""
    found = {name: np.asarray([np.asarray(point[name]) for point in points]) for name in (points[0] if points else ())}
    return {name: float(np.nanmean(each)) for name, each in found.items() if not np.isnan(each).all()}


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    seconds = int(max(seconds, 0))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"

"""What a run of prepare has made: the table, and the same as JSON."""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import re

from etils import epath
import numpy as np
import rich.table

from videodit.data import shards

_SIZES = 6
# What differs between two rejects of the same reason: names in quotes, and numbers.
_NAMES, _NUMBERS = re.compile(r"'[^']*'"), re.compile(r"\d+(\.\d+)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """What a dataset holds.

    Attributes:
      directory: of the dataset.
      hours_in: of the inputs that decode.
      hours_kept: of the clips.
      kept: clips by split.
      bytes: of records by split.
      rejected: inputs and clips that were left out, by reason; names and numbers of a reason are N.
      sizes: clips by "WIDTHxHEIGHT", the commonest first, and "other".
      durations: "shortest", "median" and "longest" of the clips that move, in seconds.
      gone: clips whose input is no longer there.
      added: clips that this run wrote.
      seconds: that this run took.
    """

    directory: str
    hours_in: float
    hours_kept: float
    kept: dict[str, int]
    bytes: dict[str, int]
    rejected: dict[str, int]
    sizes: dict[str, int]
    durations: dict[str, float]
    gone: int
    added: int
    seconds: float

    def table(self) -> rich.table.Table:
        """Returns the summary as a table to print."""
        table = rich.table.Table("what", "number", title=f"dataset {self.directory}", title_justify="left")
        table.add_row("hours in", _hours(self.hours_in))
        table.add_row("hours kept", _hours(self.hours_kept))
        for split, count in self.kept.items():
            table.add_row(f"clips, {split}", f"{count:,} ({self.bytes[split] / 1e6:,.1f} MB)")
        table.add_row("clips added by this run", f"{self.added:,}")
        if self.gone:
            table.add_row("clips whose input is gone", f"{self.gone:,}")
        for reason, count in self.rejected.items():
            table.add_row(f"left out: {reason}", f"{count:,}")
        for size, count in self.sizes.items():
            table.add_row(f"size {size}", f"{count:,}")
        for name, seconds in self.durations.items():
            table.add_row(f"duration, {name}", f"{seconds:,.2f} s")
        table.add_row("time taken", f"{self.seconds:,.1f} s")
        return table


def summarise(
    output: epath.Path,
    written: shards.ShardSummary,
    rejects: Sequence[dict[str, str]],
    *,
    before: int,
    gone: int,
    seconds_in: float | None,
    seconds: float,
) -> Summary:
    """Returns the summary of a dataset that held `before` clips; `seconds_in` None: what came in is what was kept."""
    columns = [shards.read_index(output, split) for split in written.records]
    frames, heights, widths, fps = (np.concatenate([each[name] for each in columns]) for name in ("frames", "height", "width", "fps"))
    counts = Counter(f"{int(w)}x{int(h)}" for h, w in zip(heights, widths))
    sizes = dict(counts.most_common(_SIZES))
    if len(counts) > len(sizes):
        sizes["other"] = sum(counts.values()) - sum(sizes.values())
    moving = np.sort((frames / fps)[frames > 1])
    named = {"shortest": 0, "median": len(moving) // 2, "longest": -1} if len(moving) else {}
    kept = float(moving.sum())
    return Summary(
        directory=str(output),
        hours_in=(kept if seconds_in is None else seconds_in) / 3600,
        hours_kept=kept / 3600,
        kept=written.records,
        bytes=written.bytes,
        rejected=dict(Counter(plain(each["reason"]) for each in rejects).most_common()),
        sizes=sizes,
        durations={name: float(moving[place]) for name, place in named.items()},
        gone=gone,
        added=sum(written.records.values()) - before,
        seconds=seconds,
    )


def plain(reason: str) -> str:
    """Returns a reason without what differs from one input to the next."""
    return _NUMBERS.sub("N", _NAMES.sub("N", reason))


def _hours(hours: float) -> str:
    return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.4f}"

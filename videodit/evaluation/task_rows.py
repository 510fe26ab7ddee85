"""Rows of the table of tasks: what each subject reached, over scenes, with 95 % intervals, and whether that is what the aim says."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from dataclasses import dataclass

import numpy as np

from videodit.evaluation.judge.intervals import Estimate, bootstrap, estimate

SUBJECTS = ("ours", "untrained", "copy", "true")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure of each of `SUBJECTS`, None where it has none, and whether it is what `aim` says. `intervals`: {subject: (low, high)}."""

    task: str
    measure: str
    ours: float | None
    untrained: float | None = None
    copy: float | None = None
    true: float | None = None
    aim: str = ""
    reached: bool | None = None
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


Estimates = dict[str, Estimate]


def row(
    task: str, measure: str, values: Mapping[str, Sequence[float]], aim: str = "", reached: Callable[[Estimates], bool] | None = None
) -> Row:
    """A row from a value a scene, by subject; values that are not numbers are left out. Without `reached` the row has no aim."""
    known = {name: [v for v in each if np.isfinite(v)] for name, each in values.items()}
    shares = all(v in (0, 1) for each in known.values() for v in each)
    found = {name: estimate(each) if shares else _mean(each) for name, each in known.items() if each}
    return Row(
        task=task,
        measure=measure,
        aim=aim,
        reached=None if reached is None else "ours" in found and bool(reached(found)),
        intervals={name: (each.low, each.high) for name, each in found.items()},
        **{name: found[name].share if name in found else None for name in ("ours", "untrained", "copy", "true")},
    )


def _mean(values: Sequence[float]) -> Estimate:
    low, high = bootstrap(values, range(len(values)))
    return Estimate(share=float(np.mean(values)), low=low, high=high, n=len(values))


def above(found: Estimates, *others: str) -> bool:
    """Whether ours is more than the others by more than chance: the intervals do not meet."""
    return all(found["ours"].low > found[name].high for name in others if name in found)


def below(found: Estimates, *others: str, share: float = 1.0) -> bool:
    """Whether ours is at most `share` of each of the others, and the intervals do not meet."""
    return all(
        found["ours"].high < found[name].low and found["ours"].share <= share * found[name].share for name in others if name in found
    )


def to_text(rows: Sequence[Row]) -> str:
    """The table in Markdown, readable as it is."""
    lines = ["| task | measure | ours | untrained | copy | true | aim | reached |", "|" + " --- |" * 8]
    for each in rows:
        reached = "" if each.reached is None else "yes" if each.reached else "**no**"
        cells = [each.task, each.measure, *(_cell(each, name) for name in SUBJECTS), each.aim, reached]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(each: Row, name: str) -> str:
    value = getattr(each, name)
    low, high = each.intervals.get(name, (value, value))
    return "" if value is None else _number(value) if low == high else f"{_number(value)} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}" if 5e-4 < abs(value) < 0.2 else f"{value:.2f}"

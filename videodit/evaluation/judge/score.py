"""How often clips show what they should: shares, confusion tables, and the judge's own accuracy on true renders."""

from collections.abc import Callable, Iterable

import numpy as np

from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.data.worlds.scene import CAMERA_MOVES, COLOURS, STILL
from videodit.data.worlds.shapes import SHAPES
from videodit.evaluation.judge.verdict import HEADINGS, Judged, Verdict, judge

ATTRIBUTES = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": HEADINGS, "camera": CAMERA_MOVES}
NOTHING = "nothing"


def truths_of(truth: dict) -> tuple[list[dict], str]:
    """(solids, camera move) of a truth: a world's "state", or one of `worlds.prompts`, which names one solid."""
    if "solids" in truth:
        return truth["solids"], truth["camera"]["move"]
    return [truth], truth.get("camera", STILL)


def matched(verdict: Verdict, wanted: dict) -> Judged | None:
    """The judged solid to hold against a wanted one: that of its colour, else the largest, else None."""
    same = [solid for solid in verdict.solids if solid.colour == wanted["colour"]]
    return (same or list(verdict.solids) or [None])[0]


def compared(clips_with_truth: Iterable[tuple[np.ndarray, float, dict]]) -> dict[str, list[tuple[str, str]]]:
    """(wanted, judged) pairs by attribute from (frames uint8 [T, H, W, 3], fps, truth). A solid that is not seen is judged
    "nothing" in every attribute. Images add no pairs for motion and camera. Motion is the first heading over the ground."""
    pairs: dict[str, list[tuple[str, str]]] = {attribute: [] for attribute in ATTRIBUTES}
    for frames, fps, truth in clips_with_truth:
        verdict = judge(frames, fps)
        solids, move = truths_of(truth)
        for wanted in solids:
            seen = matched(verdict, wanted)
            pairs["colour"].append((wanted["colour"], seen.colour if seen else NOTHING))
            pairs["shape"].append((wanted["shape"], seen.shape if seen else NOTHING))
            if len(frames) > 1:
                pairs["motion"].append((wanted["direction"], seen.direction if seen else NOTHING))
        if len(frames) > 1:
            pairs["camera"].append((move, verdict.camera if verdict.solids else NOTHING))
    return pairs


def shares(pairs: dict[str, list[tuple[str, str]]]) -> dict[str, float]:
    """Share of right answers by attribute, in [0, 1]; attributes without pairs are left out."""
    return {attribute: sum(a == b for a, b in each) / len(each) for attribute, each in pairs.items() if each}


def score(clips_with_truth: Iterable[tuple[np.ndarray, float, dict]]) -> dict[str, float]:
    """{"colour", "shape", "motion", "camera": share of clips that show what their truth says} from (frames, fps, truth)."""
    return shares(compared(clips_with_truth))


def confusion(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """{wanted: {judged: count}} from (wanted, judged) pairs."""
    table: dict[str, dict[str, int]] = {}
    for wanted, seen in pairs:
        row = table.setdefault(wanted, {})
        row[seen] = row.get(seen, 0) + 1
    return table


def confusion_text(table: dict[str, dict[str, int]]) -> str:
    """A confusion table for people: a row is what was wanted, a column what the judge saw."""
    known = [name for names in ATTRIBUTES.values() for name in names]
    order = {name: k for k, name in reversed(list(enumerate([*known, NOTHING])))}
    rows = sorted(table, key=lambda name: order.get(name, len(order)))
    columns = sorted({seen for row in table.values() for seen in row} | set(rows), key=lambda name: order.get(name, len(order)))
    width = max([len(name) for name in (*rows, *columns, "wanted")]) + 2
    lines = ["".join(text.rjust(width) for text in ("wanted", *columns))]
    lines += ["".join(text.rjust(width) for text in (row, *(str(table[row].get(c, 0) or "·") for c in columns))) for row in rows]
    return "\n".join(lines)


def judge_source(config: WorldsConfig, count: int, *, damage: Callable[[np.ndarray], np.ndarray] | None = None) -> dict:
    """The judge on the first `count` true renders of a config, each passed through `damage` first.

    Returns {"shares": {attribute: share}, "confusion": {attribute: {wanted: {judged: count}}}}: the most that a model's
    score can mean.
    """
    source = WorldsSource(config)
    clips = (source[index] for index in range(min(count, len(source))))
    pairs = compared((damage(clip["frames"]) if damage else clip["frames"], clip["fps"], clip["state"]) for clip in clips)
    return {"shares": shares(pairs), "confusion": {attribute: confusion(each) for attribute, each in pairs.items() if each}}

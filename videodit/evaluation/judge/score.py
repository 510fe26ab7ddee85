"""How often clips show what they should: shares, confusion tables, and the judge's own accuracy on true renders."""

from collections.abc import Callable, Iterable

import numpy as np

from videodit.data.worlds import WorldsConfig, WorldsSource
from videodit.data.worlds.config import LATE_MOTIONS
from videodit.data.worlds.scene import CAMERA_MOVES, COLOURS, STILL
from videodit.data.worlds.shapes import SHAPES
from videodit.evaluation.judge import steady
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


def facts(verdict: Verdict, truth: dict, frames: int) -> dict[str, list[tuple[str, str]]]:
    """(wanted, judged) pairs of one clip by attribute. A solid that is not seen is judged "nothing" in every attribute. Images add no pairs
    for motion and camera. Motion is the first heading over the ground."""
    solids, move = truths_of(truth)
    seen = [matched(verdict, wanted) for wanted in solids]
    told = lambda name: [(wanted["direction" if name == "motion" else name], each) for wanted, each in zip(solids, seen)]
    pairs = {name: [(wanted, getattr(each, name) if each else NOTHING) for wanted, each in told(name)] for name in ("colour", "shape")}
    pairs["motion"] = [(wanted, each.direction if each else NOTHING) for wanted, each in told("motion")] if frames > 1 else []
    pairs["camera"] = [(move, verdict.camera if verdict.solids else NOTHING)] if frames > 1 else []
    return pairs


def right(verdict: Verdict, truth: dict, frames: int) -> dict[str, bool]:
    """What is right of one clip.

    "colour", "shape", "motion" (the heading) and "camera"; "hops", whether a solid goes up and down exactly where it should ("bounces");
    "alone": there are as many solids as asked, and no piece of another; "steady": they stay what they are and where they should be, from
    the first frame to the last; and "whole": all of these. What an image or a short clip cannot show is left out.
    """
    found = {name: all(a == b for a, b in pairs) for name, pairs in facts(verdict, truth, frames).items() if pairs}
    solids, _ = truths_of(truth)
    seen = [matched(verdict, wanted) for wanted in solids]
    hops = [(each.hops if each else None, wanted["motion"]) for wanted, each in zip(solids, seen) if "motion" in wanted]
    if any(hop is not None for hop, _ in hops):
        found["hops"] = all(hop == (motion == "bounces") for hop, motion in hops if hop is not None)
    allowed = {steady.COURSE} if any(wanted.get("motion") in LATE_MOTIONS for wanted in solids) else set()
    wrong = verdict.faults - allowed
    found["alone"] = len(verdict.solids) == len(solids) and steady.PIECES not in wrong
    if frames > 1:
        found["steady"] = bool(verdict.solids) and not wrong - {steady.PIECES}
    return found | {"whole": all(found.values())}


def compared(clips_with_truth: Iterable[tuple[np.ndarray, float, dict]]) -> dict[str, list[tuple[str, str]]]:
    """(wanted, judged) pairs by attribute, as `facts` says, from (frames uint8 [T, H, W, 3], fps, truth)."""
    pairs: dict[str, list[tuple[str, str]]] = {attribute: [] for attribute in ATTRIBUTES}
    for frames, fps, truth in clips_with_truth:
        for attribute, each in facts(judge(frames, fps), truth, len(frames)).items():
            pairs[attribute] += each
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

    Returns {"shares": {attribute: share}, "confusion": {attribute: {wanted: {judged: count}}}, "whole": share of clips that are right in
    all that `right` looks at}: the most that a model's score can mean.
    """
    source, pairs, whole = WorldsSource(config), {attribute: [] for attribute in ATTRIBUTES}, []
    for index in range(min(count, len(source))):
        clip = source[index]
        verdict = judge(damage(clip["frames"]) if damage else clip["frames"], clip["fps"])
        for attribute, each in facts(verdict, clip["state"], len(clip["frames"])).items():
            pairs[attribute] += each
        whole.append(right(verdict, clip["state"], len(clip["frames"]))["whole"])
    tables = {attribute: confusion(each) for attribute, each in pairs.items() if each}
    return {"shares": shares(pairs), "confusion": tables, "whole": float(np.mean(whole))}

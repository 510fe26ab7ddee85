"""The judge's table for people: a row a subject, a column a fact, and the 95 % interval of what is right as a whole."""

from typing import Any

FACTS = ("whole", "colour", "shape", "motion", "hops", "camera", "alone", "steady")

Judged = dict[str, dict[str, dict[str, Any]]]  # {subject: {fact: {"share", "low", "high", "n"}}}


def cells(judged: Judged) -> list[list[str]]:
    """The table as text, its head first: subject, clips, whole with its interval, and the share of each other fact."""
    facts = [fact for fact in FACTS if any(fact in each for each in judged.values())]
    rows = [["right, %", "clips", *(f"{fact} [95 %]" if fact == "whole" else fact for fact in facts)]]
    for subject, found in judged.items():
        rows.append([subject, str(found["whole"]["n"]), *(_cell(fact, found.get(fact)) for fact in facts)])
    return rows


def _cell(fact: str, told: dict[str, Any] | None) -> str:
    if not told:
        return ""
    share = f"{100 * told['share']:.1f}"
    return f"{share} [{100 * told['low']:.1f}, {100 * told['high']:.1f}]" if fact == "whole" else share


def to_text(judged: Judged) -> str:
    """The table in lines of text."""
    rows = cells(judged)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    padded = ([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))] for row in rows)
    return "\n".join("  ".join(row) for row in padded)

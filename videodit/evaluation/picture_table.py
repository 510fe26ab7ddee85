"""The table of picture measures for people: a row a measure, samples beside true renders, as they are and through the VAE."""

from typing import Any

_SUBJECTS = ("samples", "vae", "true")
_HEAD = ["picture", "samples", "truth through the VAE", "truth", "samples / truth"]
_ROWS = {
    "seams.space": "seams in space, ratio",
    "seams.space_smooth": "seams in space, where it is smooth",
    "seams.time": "seams in time, ratio",
    "seams.time_smooth": "seams in time, where it is smooth",
    "gradient.99": "99th percentile of gradients, levels a pixel",
    "edge_width": "width of edges, pixels",
    "background.flicker": "flicker where nothing moves, levels",
    "background.drift": "drift where nothing moves, levels",
    "solid.still_brightness_slope": "brightness of a still solid, levels a second",
    "solid.still_area_slope": "size of a still solid, log area a second",
    "solid.lost": "frames without the solid, share",
}
_AGAINST = {"told apart from truth": ("samples_from_true", "vae_from_true", "true_from_true"),
            "told apart from truth through the VAE": ("samples_from_vae", None, None)}  # fmt: skip
NOTES = (
    "A seam's ratio is the mean step between neighbouring pixels across latents' boundaries over that inside them: 1 is no seam. "
    "Solids that stand still change in nothing, so their figures should be 0.",
    "Told apart: held-out accuracy of a classifier, with its 95 % interval; 0.5 is a guess. Under truth stand two halves of the truth.",
)


def cells(picture: dict[str, Any]) -> list[list[str]]:
    """The table as text, its head first; `picture` is what `measures.picture_measures` gives. Figures that nothing has are left out."""
    figures = picture["figures"]
    rows = [[label, *(_number(figures[name][subject]) for subject in _SUBJECTS), _number(figures[name].get("over_true"))]
            for name, label in _ROWS.items() if name in figures]  # fmt: skip
    tests = picture["two_sample"]
    rows += [[label, *(_accuracy(tests.get(name)) for name in names), ""] for label, names in _AGAINST.items()]
    fvd = picture["fvd"] or {}
    if "samples" in fvd:
        rows.append([f"FVD of {fvd['clips']} clips", f"{fvd['samples']:.1f}", "", f"{fvd['truth']:.1f}", ""])
    return [_HEAD, *(row for row in rows if any(row[1:]))]


def notes(picture: dict[str, Any]) -> list[str]:
    """What a reader of the table should know."""
    left_out = (picture["fvd"] or {}).get("left_out")
    return [*NOTES, *([left_out] if left_out else [])]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _accuracy(told: dict[str, Any] | None) -> str:
    return f"{told['accuracy']:.2f} [{told['low']:.2f}, {told['high']:.2f}]" if told else ""


def to_text(picture: dict[str, Any]) -> str:
    """The table in lines of text, notes below it."""
    rows = cells(picture)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    padded = ([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))] for row in rows)
    return "\n".join(["  ".join(row) for row in padded] + notes(picture))

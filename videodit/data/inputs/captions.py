"""Captions by kind, from what tables, `captions.jsonl` and the JSON members of a tar call them."""

from collections.abc import Mapping
from typing import Any

KINDS = ("original", "descriptive")
# What a column may be called, in the order in which it is taken.
COLUMNS = {"original": ("original", "caption", "text"), "descriptive": ("descriptive",)}


class CaptionError(Exception):
    """A caption that is no text; the message says which."""


def captions_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the captions in a row, by kind; kinds that are missing or empty are left out.

    Raises:
      CaptionError: where one is there and is no text.
    """
    found = {}
    for kind, names in COLUMNS.items():
        for name in names:
            value = row.get(name)
            if value is None or value == "" or value != value:  # a missing number of a table is NaN
                continue
            if not isinstance(value, str):
                raise CaptionError(f"its {name!r} is a {type(value).__name__}, expected text")
            found[kind] = value
            break
    return found

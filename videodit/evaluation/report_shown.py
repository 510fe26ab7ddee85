"""The report's section of samples beside what is true, in the groups that `showing` wrote."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

_SIDE = 260  # pixels on the page that the longest side of any clip may take


def section(shown: dict[str, Any] | None) -> str:
    """`shown` is `shown.json`, each file's bytes under "bytes" by its name. All clips are enlarged by one whole number."""
    if not shown:
        return ""
    longest = max(side for group in shown["groups"] for each in group["clips"] for side in each["size"])
    times = max(1, _SIDE // longest)
    groups = []
    for group in shown["groups"]:
        cards = "".join(_card(each, shown["bytes"], times, shown["true"]) for each in group["clips"])
        title = f"<h3>{escape(group['name'].capitalize())}</h3>" if group["name"] else ""
        groups.append(f'{title}<div class="shown">{cards}</div>')
    told = f"Left the sample, right the {shown['true']}, both enlarged {times} times."
    return f"<p>{escape(shown['how'])} {escape(told)}</p>{''.join(groups)}"


def _card(each: dict[str, Any], data: dict[str, bytes], times: int, true: str) -> str:
    height, width = (times * side for side in each["size"])
    pictures = "".join(
        f'<img alt="{escape(label)}" title="{escape(label)}" width="{width}" height="{height}" src="{_uri(data[each[kind]])}">'
        for kind, label in (("sample", "sample"), ("true", true))
        if each.get(kind) in data
    )
    judged = ""
    if each["seen"] is not None:
        kind = "wrong" if each["wrong"] else "right"
        judged = f'<small>judge: {escape(each["seen"])}</small><small class="{kind}">{escape(words(each["facts"], each["wrong"]))}</small>'
    return f'<figure><div class="pair">{pictures}</div><figcaption>{escape(each["prompt"])}{judged}</figcaption></figure>'


def words(facts: Sequence[str], wrong: Sequence[str]) -> str:
    """How many facts are right, or which are wrong."""
    return f"wrong, {len(wrong)} of {len(facts)} facts: {', '.join(wrong)}" if wrong else f"all {len(facts)} facts right"


def _uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"

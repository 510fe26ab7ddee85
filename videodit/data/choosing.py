"""Which clips of the examined inputs a dataset takes on, and which inputs or clips are left out and why."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
from typing import Any

from videodit.data.curate import Candidate, Examination
from videodit.data.duplicates import NearDuplicates
from videodit.data.examining import Row
from videodit.data.inputs import Input

Reject = dict[str, str]  # {"file", "reason"}

_KEPT = "the dataset holds what it was; for what it is now, prepare into another directory"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip to be written: candidate number `place` of those in `source`, which had the digest `sha256` when it was examined."""

    key: str
    source: Input
    sha256: str
    place: int
    examination: Examination

    @property
    def candidate(self) -> Candidate:
        """The clip's place in its source."""
        return self.examination.candidates[self.place]

    @property
    def said(self) -> "Said":
        """What the dataset keeps of it."""
        return Said(
            key=self.key,
            name=self.source.name,
            place=self.place,
            sha256=self.sha256,
            captions=captions_digest(self.source.captions),
            hash=self.candidate.measures.get("hash", ""),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """What the dataset keeps of a clip beside its record: its key, input and place in it, digests, and the hash of its pictures."""

    key: str
    name: str
    place: int
    sha256: str
    captions: str
    hash: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """New clips in the order of their inputs' names, the rejects, and how many clips of the dataset have an input that is gone."""

    new: list[Clip]
    rejects: list[Reject]
    gone: int


def choose(inputs: Mapping[str, Input], rows: Mapping[str, Row], held: Sequence[Said], duplicate_bits: int | None) -> Choice:
    """Chooses from examined `inputs` what is to be added to a dataset that holds the clips `held`, in the order they were added.

    `duplicate_bits`: clips whose hashes differ in no more bits are near-duplicates, and the one that was first stays; None keeps all.
    """
    held_by_name = {each.name: each for each in held}
    held_keys = {each.key for each in held}
    near = NearDuplicates(duplicate_bits) if duplicate_bits is not None else None
    for each in held if near else ():
        near.add(each.key, each.hash)
    new, rejects = [], []
    for name in sorted(inputs):
        row, before = rows[name], held_by_name.get(name)
        if before and row["sha256"] != before.sha256:
            rejects.append({"file": name, "reason": f"changed since it was written: {_KEPT}"})
            continue
        if before and captions_digest(inputs[name].captions) != before.captions:
            rejects.append({"file": name, "reason": f"captions changed since it was written: {_KEPT}"})
        if row["reason"] is not None:
            rejects.append({"file": name, "reason": row["reason"]})
            continue
        for clip in _clips(inputs[name], row):
            if clip.key in held_keys:
                continue
            reason = clip.candidate.reason or _near(near, clip)
            if reason:
                rejects.append({"file": clip.key, "reason": reason})
            else:
                new.append(clip)
    gone = sum(each.name not in inputs for each in held)
    return Choice(new=new, rejects=rejects, gone=gone)


def captions_digest(captions: Mapping[str, str]) -> str:
    """Returns 16 hex digits that change with any caption."""
    return hashlib.sha256(json.dumps(captions, sort_keys=True).encode()).hexdigest()[:16]


def _clips(source: Input, row: Row) -> list[Clip]:
    examination = Examination.from_json(row["examination"])
    several = len(examination.candidates) > 1
    return [
        Clip(
            key=f"{source.name}#{place + 1}" if several else source.name,
            source=source,
            sha256=row["sha256"],
            place=place,
            examination=examination,
        )
        for place in range(len(examination.candidates))
    ]


def _near(near: NearDuplicates | None, clip: Clip) -> str | None:
    """Returns why a clip is left out as a near-duplicate, or adds it to what later ones are compared with."""
    if near is None:
        return None
    digits = clip.candidate.measures["hash"]
    found = near.first(digits)
    if found:
        return f"near-duplicate of '{found[0]}': {found[1]} of 64 bits differ"
    near.add(clip.key, digits)
    return None


def held_out(names: Sequence[str], share: float, at_least_one: bool) -> set[str]:
    """Picks inputs to be held out, by a hash of the name alone, so that an input stays on its side however the dataset grows."""
    draw = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in names}
    chosen = {name for name in draw if draw[name] < share}
    return chosen or ({min(draw, key=draw.__getitem__)} if at_least_one and draw else set())


def said_to_json(said: Sequence[Said]) -> list[list[Any]]:
    """Returns clips as JSON, for a shard's sidecar; `said_from_json` takes it back."""
    return [list(dataclasses.astuple(each)) for each in said]


def said_from_json(rows: Sequence[Sequence[Any]]) -> list[Said]:
    """Returns what `said_to_json` was given."""
    names = [field.name for field in dataclasses.fields(Said)]
    return [Said(**dict(zip(names, row))) for row in rows]

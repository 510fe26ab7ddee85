"""Which samples lie in which rows of which step: a pure function of the seed and the step, planned from sizes alone.

No record is opened to plan, so every host plans all rows and reads only its own: the order does not depend on how many hosts or threads
there are, a resume repeats a few thousand integer operations and reads nothing twice, and a record that cannot be read changes no other.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import grain
from grain.experimental import index_shuffle
import numpy as np

from videodit.core.errors import UserError
from videodit.data.curriculum import Draw, MixtureConfig, at_step, check_not_empty
from videodit.data.packing import pack_rows, text_length

# What is random, each with numbers of its own.
_CAPTION, _SOURCE, _RECORD, _ROWS = range(4)
_BLOCK = 1024  # random numbers drawn at once
# Tokens drawn beyond what the rows hold, as a share: a choice for the last gaps. What is left over goes first in the next group.
_SURPLUS = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackingConfig:
    """How rows are packed.

    length: tokens a row; twice the longest sample, or more, fills rows to 98 % or more where samples are of many sizes, and four times
    where most are about as long (`packing_for`). rows: rows a step, over all devices; bins: rows that are packed together, a multiple of
    `rows`: more of them pad less. max_text_tokens: where a caption is cut, by each encoder that reads it. caption_odds: odds of each kind
    of caption, among those that a clip has; caption_dropout: share of clips trained without one, for guidance (Ho and Salimans, 2022).
    """

    length: int = 384
    rows: int = 8
    bins: int = 96
    max_text_tokens: int = 64
    caption_odds: dict[str, float] = dataclasses.field(default_factory=lambda: {"descriptive": 0.95, "original": 0.05})
    caption_dropout: float = 0.1

    def __post_init__(self):
        for name in ("length", "rows", "bins", "max_text_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.bins % self.rows:
            raise ValueError(f"bins is {self.bins}, expected a multiple of rows={self.rows}, e.g. {-(-self.bins // self.rows) * self.rows}")
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}, expected a share from 0 to 1")


def packing_for(max_tokens: int, max_text_tokens: int, step_tokens: int) -> PackingConfig:
    """Rows for clips of whatever sizes, with at most `max_tokens` patch tokens, and whatever captions: about `step_tokens` a step.

    A row is four times as long as the longest sample that there may be. A size policy brings most real clips to about as many tokens, and
    in a row of two of the longest, the gap after them, which none of the others fits in, is a tenth of it.
    """
    length = 4 * (max_tokens + max_text_tokens)
    rows = max(1, round(step_tokens / length))
    return PackingConfig(length=length, rows=rows, bins=-(-PackingConfig.bins // rows) * rows, max_text_tokens=max_text_tokens)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """What planning knows of a source's n records: int `[n]` patch tokens, bool `[n]` whether it is a still, and for each kind of caption
    int `[n, parts]` text tokens by each encoder, uncut, 0 where there is none."""

    name: str
    patches: np.ndarray
    stills: np.ndarray
    text: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSizes:
    """What planning knows of text, by each encoder that reads it: tokens of the `empty` caption, and the `limits` at which it is cut."""

    empty: tuple[int, ...]
    limits: tuple[int, ...]

    def cut(self, tokens: np.ndarray) -> np.ndarray:
        """`[..., parts]` tokens as they are once texts are cut."""
        return np.minimum(tokens, self.limits)


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A record in a row: of which source, with which kind of caption ("" is none), and its tokens, text and patches."""

    source: int
    record: int
    kind: str
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one step that a process reads."""

    step: int
    mine: tuple[int, ...]
    rows: tuple[tuple[Sample, ...], ...]


@functools.lru_cache(maxsize=64)
def _block(*key: int) -> np.ndarray:
    return np.random.default_rng(key).random((_BLOCK, 2))


def _uniform(seed: int, what: int, stream: int, number: int) -> np.ndarray:
    """Two numbers in [0, 1) that belong to `number`, whatever was drawn before."""
    return _block(seed, what, stream, number // _BLOCK)[number % _BLOCK]


@functools.lru_cache(maxsize=256)
def _epoch_seed(seed: int, stream: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, _RECORD, stream, epoch]).generate_state(1)[0])


@functools.lru_cache(maxsize=64)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def _shuffled(place: int, count: int, seed: int) -> int:
    """Where `place` of 0 ... `count` - 1 comes in the permutation of `seed`."""
    # grain needs no memory however many records there are, and takes 50 times as long where there are fewer than 2^16.
    return index_shuffle(place, count - 1, seed, 4) if count >= 1 << 16 else int(_permutation(count, seed)[place])


class Samples:
    """Sample `number` of each stream. A stream is a source, or its stills and its videos apart; in each of its epochs every record comes
    once, in an order of the epoch's own."""

    def __init__(self, sources: Sequence[Sizes], mixture: MixtureConfig, packing: PackingConfig, text: TextSizes, seed: int):
        self.sources, self.packing, self.text, self.seed = sources, packing, text, seed
        everything = [np.arange(len(source.patches)) for source in sources]
        if mixture.splits_images:
            self.members = [np.flatnonzero(source.stills == still) for source in sources for still in (True, False)]
            self.source_of = [number for number in range(len(sources)) for _ in range(2)]
        else:
            self.members, self.source_of = everything, list(range(len(sources)))
        for source in sources:
            unknown = [kind for kind in packing.caption_odds if kind not in source.text]
            if unknown:
                raise UserError(
                    f"packing.caption_odds names {unknown[0]!r}, which source {source.name!r} does not have; "
                    f"expected some of {', '.join(source.text)}"
                )

    def odds(self, draw: Draw) -> np.ndarray:
        """The odds of each stream, cumulated, the last 1."""
        split = (1.0,) if draw.images is None else (draw.images, 1 - draw.images)
        odds = np.cumsum([weight * share for weight in draw.weights for share in split])
        return odds / odds[-1]

    def patches(self, stream: int, number: int) -> int:
        """Patch tokens of a sample."""
        return int(self.sources[self.source_of[stream]].patches[self._record(stream, number)])

    def sample(self, stream: int, number: int) -> Sample:
        """The sample, with its caption drawn."""
        source, record = self.source_of[stream], self._record(stream, number)
        kind = self._caption(self.sources[source], record, *_uniform(self.seed, _CAPTION, stream, number))
        text = self.sources[source].text[kind][record] if kind else self.text.empty
        return Sample(source, record, kind, int(self.text.cut(text).sum() + self.sources[source].patches[record]))

    def longest(self, max_tokens: float) -> int:
        """The most tokens that a sample with at most `max_tokens` patch tokens can have."""
        return max(int((text.sum(axis=1) + patches).max(initial=0)) for text, patches in self._all(max_tokens))

    def text_slots(self, max_tokens: float) -> tuple[int, ...]:
        """Slots of each encoder's text that no row of samples with at most `max_tokens` patch tokens needs more than: a row has at most the
        share of text of the sample that has the most."""
        shares = [(text / (text.sum(axis=1) + patches)[:, None]).max(axis=0, initial=0) for text, patches in self._all(max_tokens)]
        # A little more, since 1 / 3 of 9 must not be cut to 2.
        return tuple(text_length(int(self.packing.length * share + 1e-6)) for share in np.max(shares, axis=0))

    def _all(self, max_tokens: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cut text tokens `[n, parts]` and patch tokens `[n]` of every sample that can be drawn, a kind of caption after another."""
        for source in self.sources:
            drawn = source.patches <= max_tokens
            empty = np.tile(self.text.empty, (len(source.patches), 1))
            for text in (empty, *(source.text[kind] for kind, odds in self.packing.caption_odds.items() if odds > 0)):
                yield self.text.cut(text)[drawn], source.patches[drawn]

    def _record(self, stream: int, number: int) -> int:
        members = self.members[stream]
        epoch, place = divmod(number, len(members))
        return int(members[_shuffled(place, len(members), _epoch_seed(self.seed, stream, epoch))])

    def _caption(self, source: Sizes, record: int, choice: float, drop: float) -> str:
        kinds = [kind for kind, odds in self.packing.caption_odds.items() if odds > 0 and source.text[kind][record].any()]
        if not kinds or drop < self.packing.caption_dropout:
            return ""
        odds = np.cumsum([self.packing.caption_odds[kind] for kind in kinds])
        return kinds[int(np.searchsorted(odds, choice * odds[-1], side="right"))]


class RowOrder(grain.IterDataset):
    """Endless: the rows `mine` of each step, all of them by default.

    Rows are packed `bins` at a time. The position in this order is small and the same on every host: the step, how many samples of each
    stream were drawn, and the few that were left over, all at the start of the group of rows.

    Raises UserError where nothing can be drawn, or a row cannot hold the longest sample.
    """

    def __init__(
        self,
        sources: Sequence[Sizes],
        mixture: MixtureConfig,
        packing: PackingConfig,
        *,
        text: TextSizes,
        seed: int,
        mine: Sequence[int] | None = None,
    ):
        super().__init__()
        self.packing, self.mixture, self.seed = packing, mixture, seed
        self.mine = range(packing.rows) if mine is None else mine
        check_not_empty(mixture, [source.name for source in sources], [s.patches for s in sources], [s.stills for s in sources])
        self.samples = Samples(sources, mixture, packing, text, seed)
        limit = max(at_step(mixture, point.step).max_tokens for point in mixture.curriculum) if mixture.curriculum else float("inf")
        longest = self.samples.longest(limit)
        if longest > packing.length:
            raise UserError(
                f"packing.length={packing.length} cannot hold the longest clip with its caption: {longest} tokens; "
                f"raise packing.length, or lower latents.policy.max_tokens or packing.max_text_tokens"
            )
        self.text_slots = self.samples.text_slots(limit)

    def __iter__(self) -> "_RowOrderIterator":
        return _RowOrderIterator(self)

    def __repr__(self) -> str:
        return "RowOrder"

    def plan(self, step: int, drawn: Sequence[int], waiting: Sequence[Sequence[int]]) -> tuple[list[tuple[Sample, ...]], list, list]:
        """Packs the group of rows that starts at `step`. Returns its rows, then `drawn` and `waiting` for the next group."""
        samples, packing = self.samples, self.packing
        draw, drawn, pool = at_step(self.mixture, step), list(drawn), [tuple(each) for each in waiting]
        odds = samples.odds(draw)
        found = [samples.sample(*each) for each in pool]
        room = packing.bins * packing.length * (1 + _SURPLUS) - sum(each.tokens for each in found)
        while room > 0:
            choice = _uniform(self.seed, _SOURCE, 0, sum(drawn))[0]
            stream = int(np.searchsorted(odds, choice, side="right"))
            number, drawn[stream] = drawn[stream], drawn[stream] + 1
            if samples.patches(stream, number) > draw.max_tokens:
                continue
            pool.append((stream, number))
            found.append(samples.sample(stream, number))
            room -= found[-1].tokens
        rows, left = pack_rows([each.tokens for each in found], len(waiting), packing.length, packing.bins)
        mixed = np.random.default_rng([self.seed, _ROWS, step]).permutation(len(rows))
        return [tuple(found[i] for i in rows[r]) for r in mixed], drawn, [list(pool[i]) for i in left]


class _RowOrderIterator(grain.DatasetIterator):
    def __init__(self, order: RowOrder):
        super().__init__()
        self._order = order
        # Of the group that comes next, or that is being given out: its first step, and the position it was planned from.
        self._first, self._drawn, self._waiting = 0, [0] * len(order.samples.members), []
        self._step, self._planned = 0, None

    def __next__(self) -> Rows:
        order, rows = self._order, self._order.packing.rows
        if self._planned is None:
            self._planned = order.plan(self._first, self._drawn, self._waiting)
        if (self._step - self._first) * rows == len(self._planned[0]):
            _, self._drawn, self._waiting = self._planned
            self._first = self._step
            self._planned = order.plan(self._first, self._drawn, self._waiting)
        first = (self._step - self._first) * rows
        self._step += 1
        return Rows(self._step - 1, tuple(order.mine), tuple(self._planned[0][first + row] for row in order.mine))

    def get_state(self) -> dict[str, Any]:
        packing = self._order.packing
        return {
            "step": self._step,
            "group": {"first": self._first, "drawn": list(self._drawn), "waiting": list(self._waiting)},
            "packing": [packing.length, packing.rows, packing.bins],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        packing, group = self._order.packing, state["group"]
        if len(group["drawn"]) != len(self._drawn):
            raise UserError(
                f"the checkpoint's data position is of {len(group['drawn'])} sources (stills apart from videos where the curriculum says "
                f"so), the config has {len(self._drawn)}: go on with the mixture it began with, or begin a new workdir"
            )
        self._drawn, self._waiting = list(group["drawn"]), list(group["waiting"])
        self._step, self._planned = state["step"], None
        # Rows of another shape are packed anew from where this group began.
        same = state["packing"] == [packing.length, packing.rows, packing.bins]
        self._first = group["first"] if same else state["step"]

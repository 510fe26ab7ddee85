"""What is drawn at which step: sources with weights, the share of images, the largest size. Pure arithmetic on config.

A curriculum (small sizes first, images before video, as in Hunyuan's and Open-Sora's reports) is a few points in training; between two
points values go in a straight line, before the first and after the last they stand still.
"""

from collections.abc import Sequence
import dataclasses
import itertools

import numpy as np

from videodit.core.errors import UserError

MAIN = "latents"  # the source that `latents.path` is


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Latents that are mixed in: a `name` for the curriculum, the `path` of an `encode`, and its `weight`."""

    name: str
    path: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """What holds at `step`.

    Attributes:
      step: of training.
      weights: odds of each source, by name; one that is not named keeps its own weight.
      images: share of samples that are stills; None takes stills and videos as they come. All points say it or none does.
      max_tokens: the most patch tokens of a sample; longer ones are passed over. None: no limit.
    """

    step: int
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    images: float | None = None
    max_tokens: int | None = None

    def __post_init__(self):
        if self.step < 0:
            raise ValueError(f"step is {self.step}, expected 0 or more")
        if self.images is not None and not 0 <= self.images <= 1:
            raise ValueError(f"images is {self.images}, expected a share from 0 to 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """What the transformer is trained on: the latents of `latents.path`, the source "latents", and others beside it.

    Attributes:
      weight: odds that a sample comes from "latents", relative to the weights of `sources`; 0 leaves it out.
      sources: others; made with the same VAE and text (`latents.tokenizer` for a trained tokenizer).
      curriculum: points in order of their steps.
    """

    weight: float = 1.0
    sources: tuple[SourceConfig, ...] = ()
    curriculum: tuple[Point, ...] = ()

    def __post_init__(self):
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError(f"sources have the names {', '.join(names)}, expected each once ({MAIN!r} is that of latents.path)")
        if min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(f"weights are {self.weights}, expected none below 0 and one above")
        steps = [point.step for point in self.curriculum]
        if any(a >= b for a, b in itertools.pairwise(steps)):
            raise ValueError(f"curriculum has points at steps {steps}, expected each later than the one before it")
        if len({point.images is None for point in self.curriculum}) > 1:
            raise ValueError("curriculum gives images at some points and not at others, expected at all of them or at none")
        for number, point in enumerate(self.curriculum):
            for name, weight in point.weights.items():
                if name not in names:
                    raise ValueError(f"curriculum[{number}].weights names {name!r}, expected one of {', '.join(names)}")
                if weight < 0:
                    raise ValueError(f"curriculum[{number}].weights.{name} is {weight}, expected 0 or more")

    @property
    def names(self) -> tuple[str, ...]:
        return (MAIN, *(source.name for source in self.sources))

    @property
    def weights(self) -> tuple[float, ...]:
        return (self.weight, *(source.weight for source in self.sources))

    @property
    def splits_images(self) -> bool:
        """Says whether the curriculum sets the share of stills."""
        return any(point.images is not None for point in self.curriculum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw:
    """What holds at one step: odds of each source in order, the share of stills, the most patch tokens."""

    weights: tuple[float, ...]
    images: float | None = None
    max_tokens: float = float("inf")


def at_points(config: MixtureConfig) -> list[Draw]:
    """What holds at each point of the curriculum; one entry where it has none."""
    if not config.curriculum:
        return [Draw(weights=config.weights)]
    return [
        Draw(
            weights=tuple(point.weights.get(name, weight) for name, weight in zip(config.names, config.weights)),
            images=point.images,
            max_tokens=float("inf") if point.max_tokens is None else float(point.max_tokens),
        )
        for point in config.curriculum
    ]


def at_step(config: MixtureConfig, step: int) -> Draw:
    """What holds at `step`. Between a point with a limit of size and one without, the limit holds."""
    draws, steps = at_points(config), [point.step for point in config.curriculum] or [0]
    after = int(np.searchsorted(steps, step, side="right"))
    if after == 0 or after == len(steps):
        return draws[0] if after == 0 else draws[-1]
    a, b = draws[after - 1], draws[after]
    share = (step - steps[after - 1]) / (steps[after] - steps[after - 1])
    between = lambda x, y: x if x == y else (1 - share) * x + share * y
    limits = (a.max_tokens, b.max_tokens)
    return Draw(
        weights=tuple(between(x, y) for x, y in zip(a.weights, b.weights)),
        images=None if a.images is None else between(a.images, b.images),
        max_tokens=min(limits) if max(limits) == float("inf") else between(*limits),
    )


def check_not_empty(config: MixtureConfig, names: Sequence[str], patches: Sequence[np.ndarray], stills: Sequence[np.ndarray]) -> None:
    """Raises UserError where some step would draw from a source that has nothing to give, naming the limit that does it.

    `patches` and `stills` are, of each source, the patch tokens of its records and whether they are stills.
    """
    draws = at_points(config)
    pairs = list(itertools.pairwise(draws)) or [(draws[0], draws[0])]
    for (a, b), number in itertools.product(pairs, range(len(names))):
        if max(a.weights[number], b.weights[number]) <= 0:
            continue
        name, limit = names[number], min(a.max_tokens, b.max_tokens)
        if not len(patches[number]):
            raise UserError(f"source {name!r} holds no latents: zero batches; prepare and encode at least one clip, or give it weight 0")
        kinds = [("clip", np.ones_like(stills[number]))]
        if a.images is not None:
            kinds = [
                ("still", stills[number]) if max(a.images, b.images) > 0 else None,
                ("video", ~stills[number]) if min(a.images, b.images) < 1 else None,
            ]
        for kind, chosen in filter(None, kinds):
            if not chosen.any():
                raise UserError(
                    f"mixture.curriculum asks for images={a.images:g}, but source {name!r} holds no {kind}: "
                    f"set images={0 if kind == 'still' else 1} or None, or give the source weight 0"
                )
            least = int(patches[number][chosen].min())
            if least > limit:
                raise UserError(
                    f"mixture.curriculum max_tokens={limit:g} leaves no {kind} of source {name!r}: zero batches; "
                    f"its smallest has {least} tokens"
                )

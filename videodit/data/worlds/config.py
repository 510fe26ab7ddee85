"""What a set of worlds holds: names, sizes, lengths and how much of it is kept from training."""

import dataclasses
import difflib
import functools

from videodit.core.errors import UserError
from videodit.data.worlds import shapes
from videodit.data.worlds.combinations import combinations, held_out
from videodit.data.worlds.scene import CAMERA_MOVES, COLOURS, DIRECTIONS, MOTIONS, SIZES, STILL

SPLITS = ("train", "held_out")
LATE_MOTIONS = ("turns", "stops")  # show what they are only after some time
LATE_SECONDS = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldsConfig:
    """A set of `count` clips that depends on nothing but these values.

    sizes: (height, width) pairs in pixels, each side at least 16; frames: lengths of 1 + 4k frames; fps: frames a second;
    shapes, colours, sizes_of_solids, motions, directions, cameras: names to draw from; camera_odds: share of clips whose
    camera moves; solids: fewest and most in a clip, at most 3; held_out_share: share of (shape, colour, motion,
    direction) combinations that only the "held_out" split shows. Raises UserError that names the nearest right value.
    """

    seed: int = 0
    count: int = 4096
    sizes: tuple[tuple[int, int], ...] = ((32, 48), (48, 32), (40, 40))
    frames: tuple[int, ...] = (1, 5, 9, 17)
    fps: float = 8.0
    shapes: tuple[str, ...] = shapes.SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    sizes_of_solids: tuple[str, ...] = tuple(SIZES)
    motions: tuple[str, ...] = MOTIONS
    directions: tuple[str, ...] = tuple(DIRECTIONS)
    cameras: tuple[str, ...] = CAMERA_MOVES
    camera_odds: float = 0.25
    solids: tuple[int, int] = (1, 1)
    held_out_share: float = 0.1
    split: str = "train"

    def __post_init__(self):
        for field, right in (("shapes", shapes.SHAPES), ("colours", tuple(COLOURS)), ("sizes_of_solids", tuple(SIZES)),
                             ("motions", MOTIONS), ("directions", tuple(DIRECTIONS)), ("cameras", CAMERA_MOVES)):
            _names(field, getattr(self, field), right)
        _names("split", (self.split,), SPLITS)
        _whole("count", self.count, 1)
        _whole("seed", self.seed, 0)
        for size in _some("sizes", self.sizes):
            if not isinstance(size, (tuple, list)) or len(size) != 2:
                raise UserError(f"worlds.sizes holds {size!r}; give (height, width) pairs, e.g. (40, 40)")
            for side in size:
                _whole("sizes", side, 16)
        for length in _some("frames", self.frames):
            _whole("frames", length, 1)
            if length % 4 != 1:
                nearest = max(1, round((length - 1) / 4) * 4 + 1)
                raise UserError(f"worlds.frames holds {length}; lengths are 1 + 4k, the nearest is {nearest}")
        if not 0 < self.fps <= 240:
            raise UserError(f"worlds.fps is {self.fps}; it must be above 0 and at most 240, e.g. 8.0")
        for field in ("camera_odds", "held_out_share"):
            share = getattr(self, field)
            if not 0 <= share <= 1:
                raise UserError(f"worlds.{field} is {share}; it is a share, the nearest is {min(1, max(0, share))}")
        low, high = self.solids if len(self.solids) == 2 else (0, 0)
        most = min(3, len(self.colours))
        if not 1 <= low <= high <= most:
            raise UserError(f"worlds.solids is {self.solids!r}; give (fewest, most) with 1 <= fewest <= most <= {most}, e.g. (1, {most})")
        # Lists come from config files; tuples keep this hashable, and equal configs equal.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (tuple, list)):
                object.__setattr__(self, field.name, tuple(tuple(v) if isinstance(v, list) else v for v in value))
        if not choices(self):
            raise UserError(f"worlds: the {self.split!r} split holds no combination of these shapes, colours, motions and directions; "
                            f"allow more of them or change held_out_share ({self.held_out_share})")

        for length in self.frames:
            if not shown_in(self, length):
                raise UserError(
                    f"worlds.frames holds {length}, which at {self.fps} frames a second ends before anything {' or '.join(self.motions)}; "
                    f"use more than {LATE_SECONDS} seconds or add 'slides' to motions"
                )

    @property
    def moving_cameras(self) -> tuple[str, ...]:
        """The camera moves that do move."""
        return tuple(move for move in self.cameras if move != STILL)


def _some(field, values):
    if not isinstance(values, (tuple, list)) or not values:
        raise UserError(f"worlds.{field} is {values!r}; give at least one value, as a tuple")
    return values


def _names(field, values, right):
    for value in _some(field, values):
        if value not in right:
            near = difflib.get_close_matches(str(value), right, n=1, cutoff=0.0)[0]
            raise UserError(f"worlds.{field} holds {value!r}; the nearest that exists is {near!r} (of {', '.join(right)})")
    if len(set(values)) != len(values):
        raise UserError(f"worlds.{field} is {tuple(values)!r}; name each value once")


def _whole(field, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"worlds.{field} holds {value!r}; it must be a whole number of at least {least}")


@functools.lru_cache(maxsize=32)
def choices(config: WorldsConfig) -> dict[str, tuple[tuple[str, str, str, str], ...]]:
    """The combinations that the config's split may show, by motion; motions with none are left out."""
    wanted = config.split == "held_out"
    found: dict[str, list] = {}
    for combination in combinations(config.shapes, config.colours, config.motions, config.directions):
        if held_out(*combination, share=config.held_out_share) == wanted:
            found.setdefault(combination[2], []).append(combination)
    return {motion: tuple(each) for motion, each in found.items()}


def shown_in(config: WorldsConfig, frames: int) -> list[str]:
    """The motions that a clip of `frames` frames can show. One that ends before a solid could turn or stop would show
    another, perhaps held out, combination."""
    seconds = (frames - 1) / config.fps
    return [motion for motion in choices(config) if seconds == 0 or seconds > LATE_SECONDS or motion not in LATE_MOTIONS]

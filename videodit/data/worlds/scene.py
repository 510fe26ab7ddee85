"""What a world is made of: plain frozen records that say everything a renderer, a caption or a judge needs.

Axes: x to the right, y up, z away from the camera's first position. One unit of length is the shorter side of the frame
as seen at the middle of the stage, so a solid of size 0.4 spans 40 % of the shorter side there. Times are in seconds.
"""

import dataclasses

# Hues sit at least 25 degrees apart so that shading and blur do not turn one colour into its neighbour.
COLOURS = {
    "red": (0.90, 0.10, 0.10),
    "orange": (1.00, 0.52, 0.04),
    "yellow": (0.98, 0.90, 0.10),
    "green": (0.12, 0.72, 0.16),
    "cyan": (0.08, 0.82, 0.86),
    "blue": (0.10, 0.26, 0.94),
    "purple": (0.54, 0.14, 0.86),
    "pink": (1.00, 0.34, 0.70),
}
SIZES = {"small": 0.34, "big": 0.45}  # height of a solid in units of the frame's shorter side
MOTIONS = ("slides", "rolls", "bounces", "turns", "stops", "stays still")
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "closer": (0.0, -1.0), "away": (0.0, 1.0)}  # (x, z)
STILL = "still"  # the direction of a solid that does not move, and the move of a camera that does not
CAMERA_MOVES = (STILL, "pan left", "pan right", "orbit left", "orbit right", "zoom in", "zoom out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """How one solid moves.

    `direction` is the first heading. A solid that "turns" takes the heading `then` at time `event`; one that "stops"
    rests from `event` on. `start` is (x, z) at time 0, `speed` units a second, `hop` the height of a bounce and
    `hop_phase` in [0, 1) where in a hop it starts.
    """

    kind: str
    direction: str = STILL
    then: str = STILL
    start: tuple[float, float] = (0.0, 0.0)
    speed: float = 0.0
    event: float = 0.0
    hop: float = 0.0
    hop_phase: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solid:
    """One solid: its shape and colour by name, the word for its size, its half height, and its heading in radians."""

    shape: str
    colour: str
    size: str
    half: float
    yaw: float
    motion: Motion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that looks at the stage from `elevation` radians above the ground, `distance` away.

    `rate` is radians a second for a pan or an orbit and the growth of log focal length a second for a zoom; the move
    passes its middle at time `middle`.
    """

    move: str = STILL
    rate: float = 0.0
    middle: float = 0.5
    elevation: float = 0.28
    distance: float = 1.35
    target: tuple[float, float, float] = (0.0, 0.14, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """A grey floor of soft squares: direction of the squares in radians, where they start, brightness in [0, 1]."""

    angle: float = 0.6
    offset: tuple[float, float] = (0.0, 0.0)
    brightness: float = 0.60
    square: float = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything there is in one world; what is seen of it depends only on the times and the size that are asked."""

    solids: tuple[Solid, ...]
    camera: Camera = Camera()
    ground: Ground = Ground()

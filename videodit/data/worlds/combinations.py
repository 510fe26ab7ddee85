"""Which shape, colour, motion and direction go together, and which of them training never sees."""

import zlib

from videodit.data.worlds.scene import DIRECTIONS, STILL


def possible(shape: str, motion: str, direction: str) -> bool:
    """Whether a solid of this shape can move so and still be seen to: a ring rolls in its own plane, a cube rolls nowhere."""
    if motion == "stays still":
        return direction == STILL
    if direction not in DIRECTIONS:
        return False
    if motion == "rolls":
        return shape == "ball" or (shape == "ring" and direction in ("left", "right"))
    return True


def held_out(shape: str, colour: str, motion: str, direction: str, *, share: float = 0.1) -> bool:
    """Whether the combination is kept from the train split: a stable hash, so the answer never depends on a seed.

    A solid that stays still has the direction "still". A larger share keeps what a smaller one keeps, and more.
    """
    return zlib.crc32(f"{shape} {colour} {motion} {direction}".encode()) < share * 2**32


def combinations(shapes, colours, motions, directions) -> list[tuple[str, str, str, str]]:
    """Every possible (shape, colour, motion, direction), in a fixed order."""
    return [(shape, colour, motion, direction)
            for motion in motions for direction in (*directions, STILL)
            for shape in shapes for colour in colours if possible(shape, motion, direction)]

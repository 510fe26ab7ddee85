"""Clips made to fool the judge: each shows much of what is asked, and none shows it. All of them must be judged wrong."""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from videodit.data.worlds import WorldsConfig
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import SPEED, sample_scene
from videodit.data.worlds.scene import COLOURS, DIRECTIONS, STILL, Motion, Scene, Solid
from videodit.data.worlds.shapes import SHAPES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a clip is made for: a true scene of the prompt, and the clip's size (height, width), frames and rate."""

    scene: Scene
    size: tuple[int, int]
    frames: int
    fps: float

    @property
    def solid(self) -> Solid:
        return self.scene.solids[0]

    @property
    def seconds(self) -> float:
        return (self.frames - 1) / self.fps

    def render(self, scene: Scene | None = None, frames: int | None = None) -> np.ndarray:
        """A scene, by default the true one, as uint8 `[T, H, W, 3]`."""
        height, width = self.size
        return render(scene or self.scene, frames=frames or self.frames, height=height, width=width, fps=self.fps)

    def with_solids(self, *solids: Solid) -> Scene:
        return dataclasses.replace(self.scene, solids=solids)


def scene_for(worlds: WorldsConfig, prompt: dict[str, Any], seed: int) -> Scene:
    """A scene that shows what one of `worlds.prompts` asks for. Equal seeds give equal scenes."""
    still = prompt["direction"] == STILL
    only = dataclasses.replace(
        worlds,
        seed=seed,
        shapes=(prompt["shape"],),
        colours=(prompt["colour"],),
        motions=(prompt["motion"],),
        directions=worlds.directions if still else (prompt["direction"],),
        cameras=(prompt["camera"],),
        camera_odds=float(prompt["camera"] != STILL),
        solids=(1, 1),
        frames=(17,),
        held_out_share=1.0,
        split="held_out",
    )
    return sample_scene(only, 0)


def _moved(solid: Solid, **motion: Any) -> Solid:
    return dataclasses.replace(solid, motion=dataclasses.replace(solid.motion, **motion))


def _other(names, name: str) -> str:
    """The name half way round a list of names: far from `name`."""
    names = list(names)
    return names[(names.index(name) + len(names) // 2) % len(names)]


def _placed(asked: Asked, solids: list[Solid], places: list[tuple[float, float]]) -> np.ndarray:
    """Frame by frame, a solid (of `solids` in turn) stands at each of `places` (x, z)."""
    still = [_moved(solids[k % len(solids)], kind="stays still", direction=STILL, start=place, hop=0.0) for k, place in enumerate(places)]
    return np.concatenate([asked.render(asked.with_solids(solid), frames=1) for solid in still])


def _way(asked: Asked) -> list[tuple[float, float]]:
    """Where the true solid is in every frame, (x, z)."""
    motion = asked.solid.motion
    heading = np.array(DIRECTIONS.get(motion.direction, (0.0, 0.0)))
    return [tuple(np.array(motion.start) + motion.speed * t / asked.fps * heading) for t in range(asked.frames)]


# Whatever is asked.


def eight_discs(asked: Asked) -> np.ndarray:
    """A disc of every colour, side by side, that stand still."""
    height, width = asked.size
    picture = asked.render(asked.with_solids(), frames=1)[0]
    rows, columns = (2, 4) if width >= height else (4, 2)
    y, x = np.mgrid[:height, :width] + 0.5
    for k, colour in enumerate(COLOURS.values()):
        centre = (k // columns + 0.5) * height / rows, (k % columns + 0.5) * width / columns
        radius = 0.38 * min(height / rows, width / columns)
        picture[np.hypot(y - centre[0], x - centre[1]) < radius] = np.rint(255 * np.array(colour))
    return np.repeat(picture[None], asked.frames, axis=0)


def eight_solids(asked: Asked) -> np.ndarray:
    """Solids of all colours and several shapes that move in all directions."""
    headings = list(DIRECTIONS)
    solids = [
        Solid(shape=SHAPES[k % len(SHAPES)], colour=colour, size="small", half=0.09, yaw=0.6,
              motion=Motion(kind="slides", direction=headings[k % 4], start=(0.24 * (k % 4) - 0.36, 0.4 * (k // 4) - 0.2), speed=0.1))
        for k, colour in enumerate(COLOURS)
    ]  # fmt: skip
    return asked.render(asked.with_solids(*solids))


def colour_cycle(asked: Asked) -> np.ndarray:
    """A ball that has another colour in every frame."""
    ball = dataclasses.replace(asked.solid, shape="ball")
    return _placed(asked, [dataclasses.replace(ball, colour=colour) for colour in COLOURS], [(0.0, 0.0)] * asked.frames)


def full_frame(asked: Asked) -> np.ndarray:
    """Nothing but one colour."""
    return np.broadcast_to(np.rint(255 * np.array(COLOURS["red"])).astype(np.uint8), (asked.frames, *asked.size, 3)).copy()


def stripes(asked: Asked) -> np.ndarray:
    """A stripe of every colour."""
    palette = np.rint(255 * np.array(list(COLOURS.values()))).astype(np.uint8)
    row = palette[np.arange(asked.size[1]) * len(palette) // asked.size[1]]
    return np.broadcast_to(row, (asked.frames, *asked.size, 3)).copy()


def average(asked: Asked, count: int = 16) -> np.ndarray:
    """The mean of many true renders."""
    worlds, total = WorldsConfig(split="held_out", held_out_share=1.0, seed=17, camera_odds=0.0), np.zeros((asked.frames, *asked.size, 3))
    for index in range(count):
        total += asked.render(sample_scene(worlds, index))
    return np.rint(total / count).astype(np.uint8)


# Nearly what is asked.


def teleports(asked: Asked) -> np.ndarray:
    """The right solid, which is somewhere else for the last third."""
    clip, late = asked.render(), 2 * asked.frames // 3
    way = _way(asked)
    side = -0.3 if way[late][0] > 0 else 0.3
    return np.concatenate([clip[:late], _placed(asked, [asked.solid], [(side, z) for _, z in way[late:]])])


def two_copies(asked: Asked) -> np.ndarray:
    """The right solid twice, side by side."""
    (x, z), half = asked.solid.motion.start, 0.75 * asked.solid.half
    pair = [_moved(dataclasses.replace(asked.solid, half=half), start=(0.4 * x + side, z)) for side in (-0.26, 0.26)]
    return asked.render(asked.with_solids(*pair))


def vanishes(asked: Asked) -> np.ndarray:
    """The right solid, which is gone from half way on."""
    half = asked.frames // 2
    return np.concatenate([asked.render()[:half], asked.render(asked.with_solids())[half:]])


def another_enters(asked: Asked) -> np.ndarray:
    """The right solid, and another in front of it that comes in from the side."""
    x, z = _way(asked)[-1]
    side, depth = -1.0 if x > 0 else 1.0, max(z, -0.3) - 0.2
    near = (asked.scene.camera.distance + depth) / asked.scene.camera.distance
    other = Solid(
        shape=_other(SHAPES, asked.solid.shape), colour=_other(COLOURS, asked.solid.colour), size="small", half=0.15 * near, yaw=0.6,
        motion=Motion(kind="slides", direction="right" if side < 0 else "left", start=(1.3 * side * near, depth),
                      speed=0.95 * near / asked.seconds),
    )  # fmt: skip
    return asked.render(asked.with_solids(asked.solid, other))


def coloured_noise(asked: Asked) -> np.ndarray:
    """Noise of which half the pixels are of the right colour."""
    rng = np.random.default_rng(3)
    clip = rng.integers(90, 200, (asked.frames, *asked.size, 1), dtype=np.uint8).repeat(3, axis=-1)
    clip[rng.random(clip.shape[:3]) < 0.5] = np.rint(255 * np.array(COLOURS[asked.solid.colour]))
    return clip


def every_way(asked: Asked) -> np.ndarray:
    """The right solid, which moves left, right, closer and away in turn."""
    place, places = np.zeros(2), []
    for t in range(asked.frames):
        places.append((float(place[0]), float(place[1])))
        name = list(DIRECTIONS)[min(3, 4 * t // (asked.frames - 1))]
        place = place + SPEED[name] / asked.fps * np.array(DIRECTIONS[name])
    return _placed(asked, [asked.solid], places)


def turns_back(asked: Asked) -> np.ndarray:
    """The right solid, which goes back from half way on; one that should stay goes to the left and comes back."""
    if asked.solid.motion.direction == STILL:
        clip = asked.render(asked.with_solids(_moved(asked.solid, kind="slides", direction="left", speed=SPEED["left"])))
    else:
        clip = asked.render()
    half = asked.frames // 2
    return np.concatenate([clip[: half + 1], clip[: half + 1][::-1][1:], clip[1:]])[: asked.frames]


def changes_colour(asked: Asked) -> np.ndarray:
    """The right solid, which has another colour from half way on."""
    half, other = asked.frames // 2, dataclasses.replace(asked.solid, colour=_other(COLOURS, asked.solid.colour))
    return np.concatenate([asked.render()[:half], asked.render(asked.with_solids(other))[half:]])


def changes_shape(asked: Asked) -> np.ndarray:
    """The right solid, which has another shape from half way on."""
    half, shape = asked.frames // 2, "cube" if asked.solid.shape in ("ball", "cone", "ring") else "ball"
    kind = "slides" if asked.solid.motion.kind == "rolls" else asked.solid.motion.kind  # a cube rolls nowhere
    other = _moved(dataclasses.replace(asked.solid, shape=shape, yaw=0.7), kind=kind)
    return np.concatenate([asked.render()[:half], asked.render(asked.with_solids(other))[half:]])


def torn(asked: Asked) -> np.ndarray:
    """The right solid, of which the right half is moved away by a quarter of the frame's shorter side."""
    clip, empty = asked.render(), asked.render(asked.with_solids())
    there = np.abs(clip.astype(int) - empty).max((0, 3)) > 24
    middle, gap = int(np.median(np.flatnonzero(there.any(0)))), max(2, min(asked.size) // 4)
    out = empty.copy()
    out[:, :, : middle - gap // 2] = clip[:, :, gap // 2 : middle]
    out[:, :, middle + gap // 2 :] = clip[:, :, middle : asked.size[1] - gap // 2]
    return out


def moves_otherwise(asked: Asked) -> np.ndarray:
    """The right solid, which stands still where it should move and moves where it should stay."""
    if asked.solid.motion.direction == STILL:
        return asked.render(asked.with_solids(_moved(asked.solid, kind="slides", direction="left", start=(0.2, 0.0), speed=SPEED["left"])))
    return asked.render()[:1].repeat(asked.frames, axis=0)


ANY_PROMPT: dict[str, Callable[[Asked], np.ndarray]] = {
    "eight discs": eight_discs, "eight moving solids": eight_solids, "all colours in turn": colour_cycle, "one colour": full_frame,
    "stripes": stripes, "average render": average,
}  # fmt: skip
NEAR_MISSES: dict[str, Callable[[Asked], np.ndarray]] = {
    "teleports": teleports, "two copies": two_copies, "vanishes": vanishes, "another enters": another_enters,
    "noise of its colour": coloured_noise, "every way in turn": every_way, "turns back": turns_back, "changes colour": changes_colour,
    "changes shape": changes_shape, "torn in two": torn, "moves otherwise": moves_otherwise,
}  # fmt: skip
FOOLS = ANY_PROMPT | NEAR_MISSES

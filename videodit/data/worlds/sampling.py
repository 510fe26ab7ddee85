"""Draws a scene from a config and a clip number."""

import dataclasses
import zlib

import numpy as np

from videodit.data.worlds import shapes
from videodit.data.worlds.camera import project, view
from videodit.data.worlds.config import LATE_MOTIONS, WorldsConfig, choices, shown_in
from videodit.data.worlds.layers import CORNERS
from videodit.data.worlds.motion import poses
from videodit.data.worlds.scene import DIRECTIONS, SIZES, STILL, Camera, Ground, Motion, Scene, Solid

EVENT_SECONDS = 0.5  # when a solid that turns or stops does so
# Speeds in units a second. Across the frame a solid passes a third of the shorter side in one second; depth is seen
# foreshortened, so a solid that comes closer or goes away has to be faster to be as plain to see.
SPEED = {"left": 0.33, "right": 0.33, "closer": 0.46, "away": 0.46}
START = {"left": (0.26, 0.02), "right": (-0.26, 0.02), "closer": (0.0, 0.34), "away": (0.0, -0.24), STILL: (0.0, 0.0)}
CAMERA_RATE = {"pan": 0.16, "orbit": 0.36, "zoom": 0.30}


def _generator(config: WorldsConfig, index: int, use: str) -> np.random.Generator:
    return np.random.default_rng([config.seed, index, zlib.crc32(f"{config.split} {use}".encode())])


def clip_shape(config: WorldsConfig, index: int) -> tuple[int, int, int]:
    """(frames, height, width) of clip `index`."""
    rng = _generator(config, index, "shape")
    frames = config.frames[rng.integers(len(config.frames))]
    return (frames, *config.sizes[rng.integers(len(config.sizes))])


def sample_scene(config: WorldsConfig, index: int) -> Scene:
    """The scene of clip `index`: the same for ever for the same config and index."""
    rng = _generator(config, index, "scene")
    camera = _camera(config, rng)
    count = int(rng.integers(config.solids[0], config.solids[1] + 1))
    motions = shown_in(config, clip_shape(config, index)[0])
    solids = _solids(config, rng, {motion: choices(config)[motion] for motion in motions}, camera, count)
    ground = Ground(angle=float(rng.uniform(0, np.pi / 2)), offset=tuple(float(v) for v in rng.uniform(0, 1, 2)),
                    brightness=float(rng.uniform(0.57, 0.63)))
    return Scene(solids=tuple(solids), camera=camera, ground=ground)


def _solids(config, rng, found, camera, count):
    """Solids of different colours that never run through each other while anybody may look (two seconds)."""
    motions = list(found)
    for _ in range(60):
        solids: list[Solid] = []
        while len(solids) < count:
            taken = {solid.colour for solid in solids}
            free = [each for each in found[motions[rng.integers(len(motions))]] if each[1] not in taken]
            free = free or [each for motion in motions for each in found[motion] if each[1] not in taken]
            if not free:
                break
            solids.append(_solid(config, rng, free[rng.integers(len(free))], camera))
        if len(solids) == 1:
            return [_into_frame(solids[0], camera)]
        solids = _spread(solids)
        if not _collide(solids):
            return solids
    return [_into_frame(solids[0], camera)] if config.solids[0] == 1 else solids


def _collide(solids) -> bool:
    times = np.linspace(0, 2, 17)
    ways = [poses(solid, times)[0][:, ::2] for solid in solids]
    return any(np.linalg.norm(ways[i] - ways[j], axis=1).min() < 1.15 * (solids[i].half + solids[j].half)
               for i in range(len(solids)) for j in range(i))


def _camera(config, rng):
    moving = rng.uniform() < config.camera_odds
    pick = rng.uniform()
    if not config.moving_cameras or (not moving and STILL in config.cameras):
        move = STILL
    else:
        move = config.moving_cameras[int(pick * len(config.moving_cameras))]
    rate = CAMERA_RATE.get(move.split()[0], 0.0) * rng.uniform(0.95, 1.1)
    return Camera(move=move, rate=float(rate), middle=0.5, elevation=float(rng.uniform(0.265, 0.295)))


def _solid(config, rng, combination, camera):
    shape, colour, motion, direction = combination
    size = config.sizes_of_solids[rng.integers(len(config.sizes_of_solids))]
    half = SIZES[size] / 2 * rng.uniform(0.95, 1.05)
    # Yaws at which a shape shows what it is: two faces of a cube or pyramid, the hole of a ring.
    telling = {"cube": rng.uniform(0.35, 1.1), "pyramid": rng.uniform(0.4, 1.0), "ring": rng.uniform(-0.5, 0.5)}
    yaw = telling.get(shape, rng.uniform(0, 2 * np.pi))
    if motion == "rolls" and shape == "ring":
        yaw = 0.0
    speed = SPEED.get(direction, 0.0) * rng.uniform(0.92, 1.08)
    if camera.move != STILL:
        speed *= 0.85  # leaves room in the frame for what the camera adds
    if motion == "stops":
        speed *= 1.25
    start = np.array(START[direction]) + rng.uniform((-0.03, -0.05), (0.03, 0.05))
    then = STILL
    if motion == "turns":
        pair = ("closer", "away") if direction in ("left", "right") else ("left", "right")
        pair = [name for name in pair if name in config.directions] or list(pair)
        then = pair[rng.integers(len(pair))]
        start = start * 0.7 - 0.22 * np.array(DIRECTIONS[then])
    hop = min(rng.uniform(0.15, 0.19), 0.58 - 2 * half) if motion == "bounces" else 0.0  # the top stays in the frame
    phase = rng.uniform()
    return Solid(shape=shape, colour=colour, size=size, half=float(half), yaw=float(yaw),
                 motion=Motion(kind=motion, direction=direction, then=then, start=(float(start[0]), float(start[1])), speed=float(speed),
                               event=EVENT_SECONDS if motion in LATE_MOTIONS else 0.0, hop=float(hop), hop_phase=float(phase)))


def _moved(solid, start, half=None):
    motion = dataclasses.replace(solid.motion, start=(float(start[0]), float(start[1])))
    return dataclasses.replace(solid, motion=motion, half=solid.half if half is None else half)


def _into_frame(solid, camera):
    """Shifts the start sideways until the solid stands whole within the square middle of the first frame."""
    x, z = solid.motion.start
    centre, turn = poses(solid, np.zeros(1))
    corners = centre + (CORNERS * shapes.extents(solid.shape, solid.half)) @ turn[0].T
    seen = project(view(camera, np.zeros(1)), corners[None], 1, 1)[0, :, 0]
    over = max(0.02 - seen.min(), 0) - max(seen.max() - 0.98, 0)
    return _moved(solid, (x + over * np.ptp(corners[:, 0]) / np.ptp(seen), z))


def _spread(solids):
    """Makes several solids smaller and gives each a place: lanes behind each other, or columns side by side."""
    count = len(solids)
    out = []
    for k, solid in enumerate(solids):
        half = solid.half * (0.78 if count == 2 else 0.66)
        speed = 0.8
        x, z = solid.motion.start
        column = (k - (count - 1) / 2) * (0.5 if count == 2 else 0.36)
        if solid.motion.direction in ("left", "right"):
            start = (np.clip(x * 0.8 + column * 0.4, -0.36, 0.36), (k - (count - 1) / 2) * 0.42)
        else:
            start = (column, z * 0.5)
        motion = dataclasses.replace(solid.motion, speed=solid.motion.speed * speed)
        out.append(_moved(dataclasses.replace(solid, motion=motion), start, half))
    return out

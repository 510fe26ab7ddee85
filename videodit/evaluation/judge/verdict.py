"""The judge: says from pixels alone what is to be seen in a clip."""

import dataclasses
import functools
import pathlib

import numpy as np

from videodit.data.worlds.scene import CAMERA_MOVES, DIRECTIONS, STILL
from videodit.data.worlds.shapes import SHAPES
from videodit.evaluation.judge import steady
from videodit.evaluation.judge.camera import camera_features, camera_rates
from videodit.evaluation.judge.motion import motion_features
from videodit.evaluation.judge.network import log_odds
from videodit.evaluation.judge.segment import Region, box, segment
from videodit.evaluation.judge.shape import shape_features

HEADINGS = (*DIRECTIONS, STILL)
COEFFICIENTS = pathlib.Path(__file__).with_name("coefficients.npz")
WORK_SIDE = 40  # larger pictures are averaged down until their shorter side is at least this and less than twice this


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """One solid as it is seen. `size` is the larger side of its box as a share of the frame's shorter side, on average;
    `direction` its first heading over the ground ("left", "right", "closer", "away", "still"), None in an image; `hops`, whether it goes up
    and down on its way, None in clips of less than `steady.LEAST_HOP_SECONDS`."""

    shape: str
    colour: str
    size: float
    direction: str | None
    hops: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Everything the judge sees: the solids, the largest first, the camera's move (None in an image), and what no clip of a world shows
    (`steady.PIECES` and so on; empty of a true render, but that a solid which "turns" or "stops" does change its course)."""

    solids: tuple[Judged, ...]
    camera: str | None
    faults: frozenset[str] = frozenset()


def prepared(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] as float32 in [0, 1], large pictures averaged down."""
    pixels = np.asarray(frames)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or min(pixels.shape) < 1:
        raise ValueError(f"the judge reads uint8 [T, H, W, 3] frames, not {pixels.dtype} {list(pixels.shape)}")
    pixels = pixels.astype(np.float32) / 255
    factor = max(1, min(pixels.shape[1:3]) // WORK_SIDE)
    if factor > 1:
        t, h, w = pixels.shape[0], pixels.shape[1] // factor, pixels.shape[2] // factor
        pixels = pixels[:, :h * factor, :w * factor].reshape(t, h, factor, w, factor, 3).mean((2, 4))
    return pixels


@functools.lru_cache(maxsize=1)
def _coefficients() -> dict[str, dict[str, np.ndarray]]:
    out: dict[str, dict[str, np.ndarray]] = {}
    with np.load(COEFFICIENTS) as stored:
        for name in stored.files:
            part, key = name.split(".")
            out.setdefault(part, {})[key] = stored[name].astype(np.float32)
    return out


def _shape(pixels, weight) -> str:
    features = shape_features(pixels, weight)
    if not len(features):
        return SHAPES[0]
    return SHAPES[int(log_odds(features, _coefficients()["shape"]).mean(0).argmax())]


def _shapes(pixels, region: Region) -> tuple[str, bool]:
    """The shape of a solid, and whether it has that shape in both halves of the clip."""
    shape, half = _shape(pixels, region.weight), len(pixels) // 2
    parts = (slice(0, half), slice(half, None)) if half >= 2 else ()
    return shape, all(_shape(pixels[part], region.weight[part]) == shape for part in parts)


def _size(weight) -> float:
    boxes = [edges for edges in (box(each) for each in weight) if edges]
    if not boxes:
        return 0.0
    return float(np.mean([max(b[2] - b[0], b[3] - b[1]) for b in boxes]) / min(weight.shape[1:]))


def judge(frames: np.ndarray, fps: float) -> Verdict:
    """Judges a clip of uint8 frames [T, H, W, 3] (shorter side from 32 pixels) at `fps` frames a second.

    One frame gives shapes and colours only. A clip in which no solid is seen gives a verdict without solids. Raises
    ValueError for other arrays.
    """
    pixels = prepared(frames)
    moving = len(pixels) > 1
    rates, certainty = camera_rates(pixels, fps)
    camera = None
    if moving:
        features = camera_features(rates, certainty, (len(pixels) - 1) / fps)
        camera = CAMERA_MOVES[int(log_odds(features[None], _coefficients()["camera"]).argmax())]
    regions = segment(pixels)
    wrong, paths, free = steady.faults(pixels, regions, fps)
    solids = []
    for region, path, alone in zip(regions, paths, free):
        direction = _direction(region, fps, rates) if moving else None
        if camera == STILL and not steady.keeps_course(path, alone, fps, direction):
            wrong.add(steady.COURSE)
        shape, stays = _shapes(pixels, region)
        if not stays:
            wrong.add(steady.SHAPE)
        hops = steady.hops(path, alone, fps)
        solids.append(Judged(shape=shape, colour=region.colour, size=_size(region.weight), direction=direction, hops=hops))
    return Verdict(solids=tuple(solids), camera=camera, faults=frozenset(wrong))


def _direction(region: Region, fps: float, rates: np.ndarray) -> str:
    features = motion_features(region.weight, fps, rates[-1])
    return HEADINGS[int(log_odds(features[None], _coefficients()["motion"]).argmax())]

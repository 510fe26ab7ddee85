"""The judge: says from pixels alone what is to be seen in a clip."""

import dataclasses
import functools
import pathlib

import numpy as np

from videodit.data.worlds.scene import CAMERA_MOVES, DIRECTIONS, STILL
from videodit.data.worlds.shapes import SHAPES
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
    `direction` its first heading over the ground ("left", "right", "closer", "away", "still"), None in an image."""

    shape: str
    colour: str
    size: float
    direction: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """Everything the judge sees: the solids, the largest first, and the camera's move (None in an image)."""

    solids: tuple[Judged, ...]
    camera: str | None


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


def _shape(pixels, region: Region) -> str:
    features = shape_features(pixels, region.weight)
    if not len(features):
        return SHAPES[0]
    return SHAPES[int(log_odds(features, _coefficients()["shape"]).mean(0).argmax())]


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
    solids = []
    for region in segment(pixels):
        direction = None
        if moving:
            features = motion_features(region.weight, fps, rates[-1])
            direction = HEADINGS[int(log_odds(features[None], _coefficients()["motion"]).argmax())]
        solids.append(Judged(shape=_shape(pixels, region), colour=region.colour, size=_size(region.weight), direction=direction))
    return Verdict(solids=tuple(solids), camera=camera)

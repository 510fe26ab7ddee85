"""Casts the rays: each solid as a small picture of its own in every frame, and the shadow it throws on the ground."""

import dataclasses

import numpy as np

from videodit.data.worlds import shapes
from videodit.data.worlds.camera import View, project
from videodit.data.worlds.motion import poses
from videodit.data.worlds.scene import Scene, Solid

SAMPLES = 2  # rays a pixel along each side
LIGHT = np.array([-0.52, 0.74, -0.42]) / np.linalg.norm([-0.52, 0.74, -0.42])  # towards the light
# One direction for each ray of a pixel: together they make a light with some width, so a shadow with a soft edge.
LIGHT_SPREAD = ((-0.06, -0.02), (0.02, -0.06), (-0.02, 0.06), (0.06, 0.02))
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """One solid, cut out, in T frames.

    `left`, `top` [T]: pixel of the picture's corner (it may lie outside the frame). `alpha`, `light`, `shine`
    [T, h, w] float32: share of the pixel that is covered, and sums over it of paint brightness and of white highlight.
    `distance` [T]: from the camera to the solid's centre.
    """

    left: np.ndarray
    top: np.ndarray
    alpha: np.ndarray
    light: np.ndarray
    shine: np.ndarray
    distance: np.ndarray
    centre: np.ndarray
    turn: np.ndarray


def _windows(pixels: np.ndarray, height: int, width: int):
    """A window of equal size for each frame that holds pixels [T, N, 2]; kept within one frame size around the frame."""
    low = np.floor(pixels.min(1)).astype(int) - 1
    high = np.ceil(pixels.max(1)).astype(int) + 1
    low = np.clip(low, (-width, -height), (2 * width - 2, 2 * height - 2))
    high = np.clip(high, low + 1, (2 * width, 2 * height))
    size = (high - low).max(0)
    return low[:, 0], low[:, 1], int(size[1]), int(size[0])


def _rays(view: View, left, top, h, w, height, width):
    """Screen coordinates of the window's rays in units of the shorter side: x [T, w * SAMPLES], y [T, h * SAMPLES]."""
    short = min(height, width)
    step = (np.arange(w * SAMPLES) + 0.5) / SAMPLES
    x = (left[:, None] + step - width / 2) / short
    step = (np.arange(h * SAMPLES) + 0.5) / SAMPLES
    y = (height / 2 - top[:, None] - step) / short
    return x, y


def _directions(matrix, focal, x, y):
    """Ray directions in the axes given by `matrix` [T, 3, 3] (screen axes to those), three float32 arrays [T, h, w]."""
    out = []
    for row in range(3):
        across = (matrix[:, row, 0, None] * x).astype(np.float32)
        down = (matrix[:, row, 1, None] * y + (matrix[:, row, 2] * focal)[:, None]).astype(np.float32)
        out.append(across[:, None, :] + down[:, :, None])
    return out


def pool(samples: np.ndarray) -> np.ndarray:
    """Mean over each pixel's rays: [T, h * 2, w * 2] -> [T, h, w]."""
    return ((samples[:, ::2, ::2] + samples[:, 1::2, ::2]) + (samples[:, ::2, 1::2] + samples[:, 1::2, 1::2])) * np.float32(0.25)


def solid_layer(solid: Solid, view: View, times: np.ndarray, height: int, width: int) -> Layer:
    """The solid seen by the camera at `times` [T] in a frame of `height` x `width`, before anything hides it."""
    centre, turn = poses(solid, times)
    box = CORNERS * shapes.extents(solid.shape, solid.half)
    corners = centre[:, None] + np.matmul(box, turn.transpose(0, 2, 1))
    left, top, h, w = _windows(project(view, corners, height, width), height, width)
    to_local = turn.transpose(0, 2, 1)
    x, y = _rays(view, left, top, h, w, height, width)
    direction = _directions(to_local @ view.axes, view.focal, x, y)
    offset = np.matmul(to_local, (view.position - centre)[:, :, None]).astype(np.float32)
    origin = [offset[:, i, :, None] for i in range(3)]
    t, normal = shapes.hit(solid.shape, origin, direction, solid.half)
    seen = np.isfinite(t)
    light, shine = _shade(solid, to_local, view.axes[:, :, 2], origin, direction, np.where(seen, t, 0), normal)
    seen = seen.astype(np.float32)
    distance = np.linalg.norm(view.position - centre, axis=1)
    return Layer(left=left, top=top, alpha=pool(seen), light=pool(seen * light), shine=pool(seen * shine),
                 distance=distance, centre=centre, turn=turn)


def _shade(solid, to_local, forward, origin, direction, t, normal):
    """Soft shading: wrapped diffuse light, a little light from the sky, and a broad highlight on round solids."""
    def local(vector):
        turned = np.matmul(to_local, np.broadcast_to(vector, forward.shape)[:, :, None]).astype(np.float32)
        return [turned[:, i, :, None] for i in range(3)]

    def dot(a):
        return normal[0] * a[0] + normal[1] * a[1] + normal[2] * a[2]

    # Normals of rays that miss are of any length: clipping keeps them finite.
    wrapped = np.clip(0.5 + 0.5 * dot(local(LIGHT)), 0, 1)
    light = 0.38 + 0.60 * wrapped * wrapped + 0.10 * dot(local(np.array([0.0, 1.0, 0.0])))
    light = np.maximum(light, 0.3)
    if solid.shape in ("ball", "ring"):
        inverse = np.float32(1 / solid.half)
        light = light * shapes.tone(solid.shape, [(origin[i] + t * direction[i]) * inverse for i in range(3)])
    if solid.shape in ("ball", "cone", "cylinder"):
        half_way = LIGHT - forward
        half_way = half_way / np.linalg.norm(half_way, axis=1, keepdims=True)
        gloss = np.clip(dot(local(half_way)), 0, 1)
        gloss = gloss * gloss
        gloss = gloss * gloss
        shine = 0.26 * gloss * gloss * gloss
    else:
        shine = np.zeros_like(light)
    return light, shine


def shadow(solid: Solid, layer: Layer, view: View, height: int, width: int):
    """Share of the light that the solid takes from the ground: (left [T], top [T], shade [T, h, w] in [0, 1])."""
    reach = np.linalg.norm(shapes.extents(solid.shape, solid.half))
    slant = LIGHT / LIGHT[1]
    spots = layer.centre[:, None] + reach * np.array([[x, 0, z] for x in (-1, 1) for z in (-1, 1)])
    # Where the top and the bottom of the solid throw their shadow.
    ends = [spots - slant * (np.maximum(layer.centre[:, None, 1:2] + lift, 0)) for lift in (-solid.half, solid.half)]
    points = np.concatenate(ends, axis=1)
    points[:, :, 1] = 0
    left, top, h, w = _windows(project(view, points, height, width), height, width)
    left, top = np.clip(left, 0, width - 1), np.clip(top, 0, height - 1)
    h, w = min(h, height), min(w, width)
    x, y = _rays(view, left, top, h, w, height, width)
    direction = _directions(view.axes, view.focal, x, y)
    down = np.minimum(direction[1], np.float32(-1e-4))
    t = np.float32(-1) * view.position[:, 1].astype(np.float32)[:, None, None] / down
    shift = (view.position - layer.centre).astype(np.float32)[:, :, None, None]
    ground = [shift[:, i] + t * direction[i] for i in range(3)]
    above = direction[1] < -1e-3
    total = np.zeros(t[:, ::2, ::2].shape, np.float32)
    turn = layer.turn.astype(np.float32)
    for k, (dx, dz) in enumerate(LIGHT_SPREAD):
        row, column = divmod(k, SAMPLES)
        part = [g[:, row::2, column::2] for g in ground]
        towards = LIGHT + np.array([dx, 0, dz])
        # Into the solid's own axes: v_local_i = sum_j turn[j, i] v_j
        origin = [sum(turn[:, j, i, None, None] * part[j] for j in range(3)) for i in range(3)]
        light = [np.broadcast_to((turn[:, :, i] @ towards.astype(np.float32))[:, None, None], part[0].shape) for i in range(3)]
        hit_t, _ = shapes.hit(solid.shape, origin, light, solid.half)
        total += (np.isfinite(hit_t) & (hit_t > 0) & above[:, row::2, column::2])
    return left, top, total * np.float32(0.25)


def layers(scene: Scene, view: View, times: np.ndarray, height: int, width: int) -> list[Layer]:
    """One layer for each solid of the scene, in the scene's order."""
    return [solid_layer(solid, view, times, height, width) for solid in scene.solids]

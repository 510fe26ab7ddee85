"""Pictures of a world: sky and ground, then shadows, then the solids from the farthest to the nearest."""

import numpy as np

from videodit.data.worlds.camera import View, view
from videodit.data.worlds.layers import Layer, layers, shadow
from videodit.data.worlds.scene import COLOURS, STILL, Ground, Scene

SKY_HIGH, SKY_LOW = np.array([0.62, 0.69, 0.78], np.float32), np.array([0.90, 0.92, 0.94], np.float32)
SHADOW = np.float32(0.45)  # share of the ground's light that a full shadow takes
CHUNK_RAYS = 1_500_000  # frames are cast in chunks so that a large picture does not need all memory at once


def times_of(frames: int, fps: float) -> np.ndarray:
    """Times of the frames in seconds, [T]."""
    return np.arange(frames) / fps


def background(ground: Ground, view: View, height: int, width: int) -> np.ndarray:
    """Sky and ground without solids, float32 [T, H, W, 3] in [0, 1]."""
    short = min(height, width)
    x = ((np.arange(width) + 0.5 - width / 2) / short).astype(np.float32)
    y = ((height / 2 - np.arange(height) - 0.5) / short).astype(np.float32)
    axes = view.axes.astype(np.float32)
    focal = view.focal.astype(np.float32)
    down = axes[:, 1, 1, None] * y + (axes[:, 1, 2] * focal)[:, None]  # the camera never rolls: a row is one height
    depth = view.position[:, 1].astype(np.float32)[:, None] / np.maximum(-down, np.float32(1e-3))  # ray length to the ground
    cos, sin = np.cos(ground.angle), np.sin(ground.angle)
    phases = []
    for row, offset in ((np.array([cos, sin]), ground.offset[0]), (np.array([-sin, cos]), ground.offset[1])):
        across = (row @ np.stack([axes[:, 0, 0], axes[:, 2, 0]])).astype(np.float32)
        up = (row @ np.stack([axes[:, 0, 1], axes[:, 2, 1]])).astype(np.float32)
        ahead = (row @ np.stack([axes[:, 0, 2], axes[:, 2, 2]])).astype(np.float32) * focal
        base = (row @ np.stack([view.position[:, 0], view.position[:, 2]]) + offset).astype(np.float32)
        line = depth * (up[:, None] * y + ahead[:, None]) + base[:, None]
        phases.append(line[:, :, None] + depth[:, :, None] * (across[:, None] * x)[:, None, :])
    wave = np.float32(np.pi / ground.square)
    pattern = np.sin(phases[0] * wave) * np.sin(phases[1] * wave)
    pattern *= np.float32(1.35) / (np.float32(0.35) + np.abs(pattern))  # waves to soft squares
    far = depth * focal[:, None]
    # The pattern fades before it becomes finer than a pixel, and the ground fades into the sky's foot.
    contrast = np.float32(0.075) / (1 + (far / 2.6) ** 4)
    haze = 1 - np.exp(-np.maximum(far - 1.6, 0) * np.float32(0.15))
    haze = np.where(down < -1e-3, haze, 1)[:, :, None, None]
    low = np.clip(down / focal[:, None] * 2.2, 0, 1)[:, :, None, None]
    sky = SKY_LOW * (1 - low) + SKY_HIGH * low  # [T, H, 1, 3]
    tint = np.array([0.99, 1.0, 1.015], np.float32) * np.float32(ground.brightness)
    shade = (1 + contrast[:, :, None] * pattern)[..., None] * (1 - haze)
    return shade * tint + sky * haze


def _paste(canvas: np.ndarray, left: int, top: int, patch: np.ndarray):
    """The parts of `canvas` [H, W, ...] and `patch` [h, w, ...] that overlap, as two views."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + patch.shape[0], canvas.shape[0]), min(left + patch.shape[1], canvas.shape[1])
    if y1 <= y0 or x1 <= x0:
        return None
    return canvas[y0:y1, x0:x1], patch[y0 - top:y1 - top, x0 - left:x1 - left]


def compose(scene: Scene, seen: View, cut: list[Layer], height: int, width: int) -> np.ndarray:
    """Puts layers over the background: float32 [T, H, W, 3] in [0, 1]."""
    frames = len(seen.focal)
    if scene.camera.move == STILL:
        first = View(position=seen.position[:1], axes=seen.axes[:1], focal=seen.focal[:1])
        picture = np.repeat(background(scene.ground, first, height, width), frames, axis=0)
    else:
        picture = background(scene.ground, seen, height, width)
    dark = np.zeros((frames, height, width), np.float32)
    for solid, layer in zip(scene.solids, cut):
        left, top, shade = shadow(solid, layer, seen, height, width)
        for t in range(frames):
            pair = _paste(dark[t], left[t], top[t], shade[t])
            if pair:
                np.maximum(pair[0], pair[1], out=pair[0])
    picture *= (1 - SHADOW * dark)[..., None]
    paints = [np.concatenate([layer.light[..., None] * np.array(COLOURS[solid.colour], np.float32) + layer.shine[..., None],
                              1 - layer.alpha[..., None]], axis=-1) for solid, layer in zip(scene.solids, cut)]
    for t in range(frames):
        for k in sorted(range(len(cut)), key=lambda k: -cut[k].distance[t]):
            pair = _paste(picture[t], cut[k].left[t], cut[k].top[t], paints[k][t])
            if pair:
                pair[0][...] = pair[0] * pair[1][..., 3:] + pair[1][..., :3]
    return picture


def render_with_layers(scene: Scene, *, frames: int, height: int, width: int, fps: float):
    """(frames uint8 [T, H, W, 3], list of (times [t], View, layers) by chunk of frames)."""
    times = times_of(frames, fps)
    step = max(1, CHUNK_RAYS // (height * width * 2))
    out, parts = np.empty((frames, height, width, 3), np.uint8), []
    for start in range(0, frames, step):
        moments = times[start:start + step]
        seen = view(scene.camera, moments)
        cut = layers(scene, seen, moments, height, width)
        picture = compose(scene, seen, cut, height, width)
        out[start:start + step] = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
        parts.append((moments, seen, cut))
    return out, parts


def render(scene: Scene, *, frames: int, height: int, width: int, fps: float) -> np.ndarray:
    """Renders a scene at any size, rate and length: uint8 [T, H, W, 3]. Frame k shows time k / fps seconds."""
    return render_with_layers(scene, frames=frames, height=height, width=width, fps=fps)[0]

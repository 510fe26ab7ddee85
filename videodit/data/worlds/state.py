"""The world's own state in every frame: what a judge or a person can hold a clip against."""

import numpy as np

from videodit.data.worlds.camera import project
from videodit.data.worlds.captions import shown_motion
from videodit.data.worlds.render import render_with_layers
from videodit.data.worlds.scene import Scene


def trace(scene: Scene, frames: int, height: int, width: int, fps: float) -> dict:
    """The state of a clip as plain lists and numbers, fit for JSON. See `state_of` for what it holds."""
    _, parts = render_with_layers(scene, frames=frames, height=height, width=width, fps=fps)
    return state_of(scene, parts, frames, height, width, fps)


def state_of(scene: Scene, parts, frames: int, height: int, width: int, fps: float) -> dict:
    """State from the layers of a render.

    {"camera": {"move", "position" [T][3], "axes" [T][3][3] (columns right, up, forward), "focal" [T]},
     "solids": [{"shape", "colour", "size", "motion", "direction", "then", "position" [T][3], "rotation" [T][3][3],
     "centre" [T][2] (x, y in pixels), "box" [T] (left, top, right, bottom in pixels, within the frame, or None when
     nothing of it is seen), "visible" [T] (share of the silhouette that is seen), "hidden_by" [T] (solids in front, as
     their number, and "edge" for the frame's edge)}]}.
    `motion`, `direction` and `then` say what this clip shows; lengths are units of scene.py.
    """
    def joined(values):
        return np.concatenate(values).round(5).tolist()

    out = {"camera": {"move": scene.camera.move if frames > 1 else "still",
                      "position": joined([seen.position for _, seen, _ in parts]),
                      "axes": joined([seen.axes for _, seen, _ in parts]), "focal": joined([seen.focal for _, seen, _ in parts])},
           "solids": []}
    for k, solid in enumerate(scene.solids):
        motion, direction, then = shown_motion(solid, (frames - 1) / fps)
        each = {"shape": solid.shape, "colour": solid.colour, "size": solid.size, "motion": motion, "direction": direction, "then": then,
                "position": joined([cut[k].centre for *_, cut in parts]), "rotation": joined([cut[k].turn for *_, cut in parts]),
                "centre": joined([project(seen, cut[k].centre[:, None], height, width)[:, 0] for _, seen, cut in parts]),
                "box": [], "visible": [], "hidden_by": []}
        for moments, _, cut in parts:
            for t in range(len(moments)):
                box, share, hides = _seen(cut, k, t, height, width)
                each["box"].append(box)
                each["visible"].append(share)
                each["hidden_by"].append(hides)
        out["solids"].append(each)
    return out


def _seen(cut, k, t, height, width):
    """(box, visible share, what hides it) of solid k in frame t of one chunk."""
    me = cut[k]
    alpha = me.alpha[t]
    total = float(alpha.sum())
    rows = np.arange(alpha.shape[0])[:, None] + me.top[t]
    columns = np.arange(alpha.shape[1])[None] + me.left[t]
    seen = np.where((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width), alpha, 0)
    hides = ["edge"] if total and seen.sum() < 0.995 * total else []
    for j, other in enumerate(cut):
        if j == k or other.distance[t] >= me.distance[t]:
            continue
        dy, dx = other.top[t] - me.top[t], other.left[t] - me.left[t]
        h, w = other.alpha.shape[1:]
        y0, x0, y1, x1 = max(dy, 0), max(dx, 0), min(dy + h, alpha.shape[0]), min(dx + w, alpha.shape[1])
        if y1 > y0 and x1 > x0:
            before = seen.sum()
            seen[y0:y1, x0:x1] *= 1 - other.alpha[t, y0 - dy:y1 - dy, x0 - dx:x1 - dx]
            if seen.sum() < before - 0.005 * total:
                hides.append(j)
    share = round(float(seen.sum()) / total, 4) if total else 0.0
    ys, xs = np.where(seen > 0.05)
    if not len(ys):
        return None, share, hides
    left, top = me.left[t], me.top[t]
    return [int(xs.min() + left), int(ys.min() + top), int(xs.max() + left + 1), int(ys.max() + top + 1)], share, hides

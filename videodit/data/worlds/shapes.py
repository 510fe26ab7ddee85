"""The solids: where a ray meets each, in the solid's own axes, for many rays at once.

Each solid is centred on its own origin with y up and has half height `half`. A ray is origin + t * direction with
`origin` three [T, 1, 1] arrays and `direction` three [T, h, w] arrays (any length). A hit function returns
`t` (infinity for a miss) and the outward unit normal as three arrays, which are meaningless on a miss.
"""

import numpy as np

# Extents (x, y, z) as shares of the half height: the box that holds the solid.
EXTENTS = {
    "ball": (1.0, 1.0, 1.0),
    "cube": (0.82, 0.82, 0.82),
    "cone": (0.95, 1.0, 0.95),
    "cylinder": (0.72, 1.0, 0.72),
    "pyramid": (0.88, 1.0, 0.88),
    "ring": (1.0, 1.0, 0.30),
}
SHAPES = tuple(EXTENTS)
RING_HOLE = 0.52  # radius of the hole as a share of the outer radius
MISS = np.float32(np.inf)


def extents(shape: str, half: float) -> np.ndarray:
    """Half extents [3] of the box that holds the solid in its own axes."""
    return np.array(EXTENTS[shape]) * half


def rest_height(shape: str, half: float) -> float:
    """Height of the centre above the ground when the solid stands on it."""
    return EXTENTS[shape][1] * half


def _quadratic(a, b, c):
    """Both roots of a t^2 + 2 b t + c = 0 and whether they are real."""
    discriminant = b * b - a * c
    real = discriminant >= 0
    root = np.sqrt(np.maximum(discriminant, 0))
    inverse = 1 / a
    return (-b - root) * inverse, (root - b) * inverse, real


def ball(o, d, half):
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    near, _, real = _quadratic(a, b, o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - half * half)
    return np.where(real, near, MISS), tuple((o[i] + near * d[i]) / half for i in range(3))


def _convex(o, d, planes):
    """A convex body: the last plane entered is the face that is seen. `planes` is [(normal, offset)], normal . p <= offset."""
    enter, leave = np.full(d[0].shape, -MISS, np.float32), np.full(d[0].shape, MISS, np.float32)
    normal = [np.zeros(d[0].shape, np.float32) for _ in range(3)]
    for face, offset in planes:
        parts = [i for i in range(3) if face[i]]
        along = sum(d[i] * np.float32(face[i]) for i in parts)
        along = np.where(np.abs(along) < 1e-9, np.float32(1e-9), along)
        t = (np.float32(offset) - sum(o[i] * np.float32(face[i]) for i in parts)) / along
        inward = along < 0
        newer = inward & (t > enter)
        np.copyto(enter, t, where=newer)
        for i in range(3):
            np.copyto(normal[i], np.float32(face[i]), where=newer)
        np.minimum(leave, t, out=leave, where=~inward)
    return np.where(enter < leave, enter, MISS), tuple(normal)


def cube(o, d, half):
    h = EXTENTS["cube"][0] * half
    faces = [(sign * np.eye(3)[axis], h) for axis in range(3) for sign in (-1, 1)]
    return _convex(o, d, faces)


def pyramid(o, d, half):
    # A side runs from the base edge (base, -half) to the tip (0, half): its normal is (2 half, base) / length.
    base = EXTENTS["pyramid"][0] * half
    length = np.hypot(2 * half, base)
    out, up = 2 * half / length, base / length
    faces = [((0, -1, 0), half)]
    faces += [((sx * out, up, sz * out), up * half) for sx, sz in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    return _convex(o, d, faces)


def _nearest(candidates):
    """The nearest of several (t, normal) hits."""
    t, normal = candidates[0]
    normal = [np.array(np.broadcast_to(n, t.shape), np.float32) for n in normal]
    t = t.copy()
    for other, face in candidates[1:]:
        nearer = other < t
        np.copyto(t, other, where=nearer)
        for i in range(3):
            np.copyto(normal[i], face[i], where=nearer)
    return t, tuple(normal)


def _cap(o, d, axis, level, inner, outer):
    """A flat disc or washer across `axis` at `level`."""
    along = np.where(np.abs(d[axis]) < 1e-9, np.float32(1e-9), d[axis])
    t = (np.float32(level) - o[axis]) / along
    i, j = [k for k in range(3) if k != axis]
    radius = (o[i] + t * d[i]) ** 2 + (o[j] + t * d[j]) ** 2
    hit = (t > 0) & (radius <= outer * outer) & (radius >= inner * inner)
    normal = [np.float32(0)] * 3
    normal[axis] = np.float32(np.sign(level))
    return np.where(hit, t, MISS), tuple(normal)


def cylinder(o, d, half):
    radius = EXTENTS["cylinder"][0] * half
    a = np.maximum(d[0] * d[0] + d[2] * d[2], 1e-12)
    near, _, real = _quadratic(a, o[0] * d[0] + o[2] * d[2], o[0] ** 2 + o[2] ** 2 - radius * radius)
    side = np.where(real & (np.abs(o[1] + near * d[1]) <= half) & (near > 0), near, MISS)
    normal = ((o[0] + near * d[0]) / radius, np.float32(0), (o[2] + near * d[2]) / radius)
    return _nearest([(side, normal), _cap(o, d, 1, half, 0.0, radius), _cap(o, d, 1, -half, 0.0, radius)])


def cone(o, d, half):
    # x^2 + z^2 = (k (half - y))^2 below the tip.
    base = EXTENTS["cone"][0] * half
    k = base / (2 * half)
    down, step = half - o[1], -d[1]
    a = d[0] * d[0] + d[2] * d[2] - (k * step) ** 2
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    b = o[0] * d[0] + o[2] * d[2] - k * k * down * step
    roots = _quadratic(a, b, o[0] ** 2 + o[2] ** 2 - (k * down) ** 2)
    best = None
    for t in (np.minimum(roots[0], roots[1]), np.maximum(roots[0], roots[1])):
        y = o[1] + t * d[1]
        fine = roots[2] & (t > 0) & (y <= half) & (y >= -half)
        best = np.where(fine, t, MISS) if best is None else np.where(np.isinf(best) & fine, t, best)
    t = np.where(np.isinf(best), np.float32(0), best)
    x, y, z = (o[i] + t * d[i] for i in range(3))
    rise = k * np.maximum(half - y, 1e-6)
    slope = np.float32(1 / np.sqrt(1 + k * k))
    normal = (x / rise * slope, np.float32(k) * slope, z / rise * slope)
    return _nearest([(best, normal), _cap(o, d, 1, -half, 0.0, base)])


def ring(o, d, half):
    """A flat ring that stands on its rim, its hole along z."""
    depth, inner = EXTENTS["ring"][2] * half, RING_HOLE * half
    a = np.maximum(d[0] * d[0] + d[1] * d[1], 1e-12)
    b, square = o[0] * d[0] + o[1] * d[1], o[0] ** 2 + o[1] ** 2
    hits = []
    for radius, root, sign in ((half, 0, 1), (inner, 1, -1)):
        roots = _quadratic(a, b, square - radius * radius)
        t = roots[root]
        inside = roots[2] & (np.abs(o[2] + t * d[2]) <= depth) & (t > 0)
        normal = (sign * (o[0] + t * d[0]) / radius, sign * (o[1] + t * d[1]) / radius, np.float32(0))
        hits.append((np.where(inside, t, MISS), normal))
    return _nearest([*hits, _cap(o, d, 2, depth, inner, half), _cap(o, d, 2, -depth, inner, half)])


HITS = {"ball": ball, "cube": cube, "cone": cone, "cylinder": cylinder, "pyramid": pyramid, "ring": ring}


def hit(shape: str, origin, direction, half: float):
    """Nearest hit of rays with a solid of this shape in its own axes: (t [T, h, w], normal three arrays)."""
    return HITS[shape](origin, direction, np.float32(half))


def tone(shape: str, point) -> np.ndarray | float:
    """Brightness of the paint at points (three arrays, in units of half height), about 1.

    Balls and rings carry darker panels; without them nobody could see them roll.
    """
    if shape == "ball":
        return 1 - 0.13 * (1 + np.clip(14 * point[0] * point[2], -1, 1))
    if shape == "ring":
        return 1 - 0.13 * (1 + np.clip(14 * point[0] * point[1], -1, 1))
    return 1.0

"""Ray hits: points lie on the surface, normals point at the eye, and boxes hold the solids."""

import numpy as np
import pytest

from videodit.data.worlds import shapes


def _rays(seed=0):
    rng = np.random.default_rng(seed)
    eye = rng.normal(size=3)
    eye = (3 * eye / np.linalg.norm(eye)).astype(np.float32)
    aim = rng.uniform(-1.2, 1.2, (3, 1, 50, 50)).astype(np.float32)
    return [np.full((1, 1, 1), value) for value in eye], [aim[i] - eye[i] for i in range(3)]


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_hits_lie_in_the_box_with_unit_normals_towards_the_eye(shape, seed):
    origin, direction = _rays(seed)
    t, normal = shapes.hit(shape, origin, direction, 0.8)
    seen = np.isfinite(t)
    assert 0.02 < seen.mean() < 0.98
    point = np.stack([(origin[i] + np.where(seen, t, 0) * direction[i])[seen] for i in range(3)], -1)
    normal = np.stack([np.broadcast_to(normal[i], t.shape)[seen] for i in range(3)], -1)
    towards = np.stack([direction[i][seen] for i in range(3)], -1)
    assert (np.abs(point) <= shapes.extents(shape, 0.8) + 1e-3).all()
    assert np.allclose(np.linalg.norm(normal, axis=-1), 1, atol=2e-3)
    assert ((normal * towards).sum(-1) <= 1e-2).all()


def test_a_ball_is_hit_exactly_where_geometry_says():
    origin, direction = _rays(1)
    t, _ = shapes.hit("ball", origin, direction, 0.5)
    o, d = np.array([x.item() for x in origin]), np.stack(direction, -1)
    miss = np.linalg.norm(np.cross(d, o), axis=-1) / np.linalg.norm(d, axis=-1)
    clear = np.abs(miss - 0.5) > 1e-3
    assert np.array_equal(np.isfinite(t)[clear], (miss < 0.5)[clear])


def test_one_sees_through_the_hole_of_a_ring():
    straight = [np.zeros((1, 1, 1), np.float32)] * 2 + [np.full((1, 1, 1), -3, np.float32)]
    ahead = [np.zeros((1, 1, 1), np.float32)] * 2 + [np.ones((1, 1, 1), np.float32)]
    assert np.isinf(shapes.hit("ring", straight, ahead, 0.5)[0]).all()

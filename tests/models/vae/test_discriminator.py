"""The discriminator judges patches of any size, and its game is that of VQGAN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.models.vae.discriminator import MOST_WEIGHT, AdversarialConfig, Discriminator, adaptive_weight, hinge_losses

CONFIG = AdversarialConfig(weight=1.0, width=8, layers=2)


@pytest.fixture(scope="module")
def judge():
    model = Discriminator(CONFIG)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))
    return jax.jit(lambda video: model.apply(params, video))


@pytest.mark.parametrize(
    ("size", "judgements"), [((1, 16, 16), (1, 4, 4)), ((9, 16, 24), (5, 4, 6)), ((2, 7, 33), (1, 2, 9)), ((5, 1, 1), (3, 1, 1))]
)
def test_images_and_videos_of_any_size_are_judged(judge, size, judgements):
    found = judge(jnp.ones((2, *size, 3)))
    assert found.shape == (2, *judgements, 1) and found.dtype == jnp.float32 and np.isfinite(found).all()


def test_a_judgement_sees_its_surroundings_alone_before_and_after_it(judge):
    video = jax.random.uniform(jax.random.key(1), (1, 17, 64, 64, 3), minval=-1.0)
    seen = np.abs(jax.grad(lambda video: judge(video)[0, 4, 8, 8, 0])(video)).sum((0, -1))
    seen = seen > 1e-6 * seen.max()  # Winograd's tiles leave rounding beside what a kernel sees
    frames, rows, columns = (np.flatnonzero(seen.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    # 3x4x4 kernels of strides 1 and 2 in time and 2 in space, then 3x3x3 and 1x3x3: 9 frames and 26 pixels a side.
    assert (len(frames), len(rows), len(columns)) == (9, 26, 26)
    assert frames.min() < 8 < frames.max() and rows.min() < 32 < rows.max()


@pytest.mark.parametrize("make", [dict(weight=-1.0), dict(start=-1), dict(width=0), dict(layers=0)])
def test_a_game_that_cannot_be_is_named(make):
    with pytest.raises(UserError, match="expected"):
        AdversarialConfig(**make)


def test_the_hinge_is_flat_where_the_discriminator_is_sure():
    of_real, of_made = jnp.array([2.0, 0.5]), jnp.array([-3.0, 0.0])
    own, judged = hinge_losses(of_real, of_made)
    assert float(own) == 0.5 * (0.25 + 0.5) and float(judged) == 1.5
    real, made = jax.grad(lambda *of: hinge_losses(*of)[0], argnums=(0, 1))(of_real, of_made)
    np.testing.assert_allclose(real, [0.0, -0.25])
    np.testing.assert_allclose(made, [0.0, 0.25])


def test_the_adaptive_weight_makes_gradients_equally_long_within_bounds():
    a, b = jnp.full((2, 2), 3.0), jnp.full((2, 2), 0.5)
    np.testing.assert_allclose(adaptive_weight(a, b), 6.0, rtol=1e-5)
    assert adaptive_weight(a, 0 * b) == MOST_WEIGHT and adaptive_weight(0 * a, b) == 0

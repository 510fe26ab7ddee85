"""Guidance is a line through both velocities."""

import jax
import numpy as np

from videodit.diffusion.guidance import guide


def test_guidance_one_is_the_conditional_and_zero_the_unconditional():
    conditional, unconditional = jax.random.normal(jax.random.key(0), (2, 6))
    np.testing.assert_allclose(guide(conditional, unconditional, 1.0), conditional, atol=1e-6)
    np.testing.assert_array_equal(guide(conditional, unconditional, 0.0), unconditional)
    np.testing.assert_allclose(guide(conditional, unconditional, 3.0) - conditional, 2 * (conditional - unconditional), atol=1e-5)

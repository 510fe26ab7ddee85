"""The shift keeps the ends, and grows with tokens a frame and frames as published."""

import jax.numpy as jnp
import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.diffusion.shift import ShiftConfig, check_shift, shift_noise, shift_of


def test_the_shift_keeps_the_ends_and_the_order():
    levels = jnp.linspace(0, 1, 11)
    shifted = shift_noise(levels, 4.0)
    assert shifted[0] == 0 and shifted[-1] == 1 and (jnp.diff(shifted) > 0).all() and (shifted[1:-1] > levels[1:-1]).all()
    np.testing.assert_array_equal(shift_noise(levels, 1.0), levels)


# (frames, height, width) in patches. Open-Sora 2.0 at 256 px is 16 x 16, at 768 px 48 x 48 patches a frame.
@pytest.mark.parametrize(
    ("extent", "wanted"),
    [((1, 16, 16), 1.0), ((1, 64, 64), 3.0), ((1, 34, 64), 2.0), ((9, 16, 16), 3.0), ((33, 64, 64), 3 * 33**0.5), ((1, 4, 4), 1.0)],
)
def test_the_shift_is_linear_in_tokens_a_frame_and_as_the_root_of_frames(extent, wanted):
    np.testing.assert_allclose(shift_of(ShiftConfig(), jnp.array([[extent]])), [[wanted]], rtol=1e-6)


def test_without_a_power_of_frames_length_does_not_matter_and_padding_has_a_finite_shift():
    shift = shift_of(ShiftConfig(frames_power=0.0, low=1.5), jnp.array([[(1, 16, 16), (40, 16, 16), (0, 0, 0)]]))
    np.testing.assert_allclose(shift[0, :2], 1.5)
    assert jnp.isfinite(shift).all() and shift.min() >= 1


def test_a_number_is_the_shift_of_every_token():
    assert shift_of(3.0, jnp.ones((2, 5, 3), jnp.int32)) == 3.0


@pytest.mark.parametrize("wrong", [{"low": 0.5}, {"high": 0.9}, {"low_tokens": 0}, {"high_tokens": 100}, {"frames_power": 2.0}])
def test_a_wrong_shift_is_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"shift.{name}"):
        ShiftConfig(**wrong)
    with pytest.raises(UserError, match="process.shift=0.5"):
        check_shift(0.5, "process.shift")

"""Videos that curation is shown."""

import numpy as np
import pytest

from videodit.data import media


def textured(number, height=72, width=96, shift=0):
    """A picture of random blocks `uint8 [H, W, 3]`; other numbers are other pictures, and `shift` moves it by pixels."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(30, 226, (height // 8 + 2, width // 8 + 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:height, shift : shift + width]


@pytest.fixture(scope="session")
def shot():
    """`shot(number, frames)` is a moving shot `uint8 [T, H, W, 3]`."""
    return lambda number, frames=24, height=72, width=96: np.stack([textured(number, height, width, k % 40) for k in range(frames)])


@pytest.fixture(scope="session")
def encoded():
    """`encoded(shots...)` is the bytes of a video of shots in a row, 24 frames a second."""
    return lambda *shots: media.encode_video(np.concatenate(shots), 24.0)

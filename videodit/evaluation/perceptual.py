"""LPIPS of uint8 clips, where the config gives its weights by path."""

from collections.abc import Callable

from etils import epath
import jax
import numpy as np

from videodit.core.errors import UserError
from videodit.models.vae.losses import PerceptualConfig
from videodit.models.vae.perceptual import Weights, load_weights, lpips
from videodit.training.models import to_float_pixels

# Of two uint8 `[T, H, W, 3]`, the mean over frames; None where frames are too small for the network.
Perceptual = Callable[[np.ndarray, np.ndarray], float | None]


@jax.jit
def _of_frame(weights: Weights, a: jax.Array, b: jax.Array) -> jax.Array:
    return lpips(weights, to_float_pixels(a), to_float_pixels(b))


def load_perceptual(config: PerceptualConfig) -> Perceptual | None:
    """LPIPS by the weights that `config` names, whatever its weight in training; None where it names none.

    Frames are measured one by one, so memory does not grow with a clip's length. Raises UserError as `load_weights` does.
    """
    if not config.network:
        return None
    weights = jax.device_put(load_weights(epath.Path(config.network), epath.Path(config.heads)))

    def distance(a: np.ndarray, b: np.ndarray) -> float | None:
        try:
            return float(np.mean([_of_frame(weights, x, y) for x, y in zip(a, b, strict=True)]))
        except UserError:  # all that `lpips` refuses is frames that leave no feature
            return None

    return distance

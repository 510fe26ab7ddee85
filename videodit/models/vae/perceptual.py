"""LPIPS: how far apart two pictures look, by the features of a classifier (Zhang et al., 2018, eq. 1; version 0.1 of its weights).

The weights are the public ones and are no part of this project: two files in safetensors, made once, where torch is installed, from
the `.pth` of torchvision (`vgg16-397923af.pth` or `alexnet-owt-7be5be79.pth`) and of lpips (`weights/v0.1/vgg.pth` or `alex.pth`):

    weights = {k: v.contiguous() for k, v in torch.load("vgg16-397923af.pth").items() if k.startswith("features.")}
    safetensors.torch.save_file(weights, "vgg16.safetensors")  # and the same of vgg.pth, without the `if`
"""

from collections.abc import Mapping
from dataclasses import dataclass

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
import safetensors.numpy

from videodit.core.errors import UserError

Weights = Mapping[str, jax.Array]  # kernels `[h, w, in, out]` and biases by `LAYER/kernel`, `LAYER/bias`; heads `[features]` by `headN`

# ImageNet's channel means and deviations, for pixels in [-1, 1].
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)


@dataclass(frozen=True)
class _Network:
    """A classifier's features, by its layers' numbers in torchvision. Each slice ends where features are taken, after a ReLU."""

    slices: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]  # features of each slice
    first: tuple[int, int, int]  # side, stride and padding of the first kernel; the others have stride 1 and keep the size
    pool: int  # side of the max-pooling, stride 2,
    pooled: tuple[int, ...]  # before these slices
    least: int  # pixels: a smaller side leaves no feature


_NETWORKS = {
    "VGG16": _Network(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)), (64, 128, 256, 512, 512), (3, 1, 1), 2, (1, 2, 3, 4), 16),
    "AlexNet": _Network(((0,), (3,), (6,), (8,), (10,)), (64, 192, 384, 256, 256), (11, 4, 2), 3, (1, 2), 31),
}


def load_weights(network: epath.PathLike, heads: epath.PathLike) -> dict[str, np.ndarray]:
    """The weights of LPIPS from two safetensors files: torchvision's VGG16 or AlexNet, and the lpips package's heads for it.

    Raises UserError where a file is missing, is no safetensors, or lacks a layer, naming the file and what it should hold.
    """
    layers, weights = _read(network, "torchvision's features.N.weight"), {}
    first = layers.get("features.0.weight")
    found = None if first is None else _by_first_side(first.shape[-1])
    if found is None:
        raise UserError(
            f"{str(network)!r} holds the features of neither {' nor '.join(_NETWORKS)}; expected torchvision's features.N.weight"
        )
    for layer in sum(_NETWORKS[found].slices, ()):
        for kind in ("weight", "bias"):
            if f"features.{layer}.{kind}" not in layers:
                raise UserError(f"{str(network)!r} lacks features.{layer}.{kind} of torchvision's {found}")
        weights[f"{layer}/kernel"] = layers[f"features.{layer}.weight"].astype(np.float32).transpose(2, 3, 1, 0)
        weights[f"{layer}/bias"] = layers[f"features.{layer}.bias"].astype(np.float32)
    linear = _read(heads, "lpips' linN.model.1.weight")
    for number, width in enumerate(_NETWORKS[found].widths):
        head = linear.get(f"lin{number}.model.1.weight")
        if head is None or head.size != width:
            raise UserError(f"{str(heads)!r} lacks lin{number}.model.1.weight of {width} values: expected the heads of lpips for {found}")
        weights[f"head{number}"] = head.astype(np.float32).reshape(-1)
    return weights


def lpips(weights: Weights, a: jax.Array, b: jax.Array) -> jax.Array:
    """float `[..., H, W, 3]` twice, pixels in [-1, 1] -> float32 `[...]`, a distance for each picture or frame; 0 where they are equal.

    Raises UserError where a side is too small for the network (VGG16: 16 pixels).
    """
    name = _by_first_side(weights["0/kernel"].shape[0])
    network, (height, width) = _NETWORKS[name], a.shape[-3:-1]
    if min(height, width) < network.least:
        raise UserError(f"LPIPS by {name} of {width}x{height} pixels: expected {network.least} or more a side, or LPIPS off")
    leading, count = a.shape[:-3], int(np.prod(a.shape[:-3]))
    both = jnp.concatenate([x.reshape(-1, *x.shape[-3:]).astype(jnp.float32) for x in (a, b)])
    distance = jnp.zeros(count)
    for number, features in enumerate(_features(network, weights, (both - _SHIFT) / _SCALE)):
        square = jnp.square(features).sum(-1, keepdims=True)
        unit = features / (jnp.sqrt(jnp.where(square > 0, square, 1.0)) + 1e-10)  # the root of 0 has no gradient
        distance += (jnp.square(unit[:count] - unit[count:]) @ weights[f"head{number}"]).mean((1, 2))
    return distance.reshape(leading)


def _features(network: _Network, weights: Weights, x):
    for number, layers in enumerate(network.slices):
        if number in network.pooled:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, network.pool, network.pool, 1), (1, 2, 2, 1), "VALID")
        for layer in layers:
            kernel = weights[f"{layer}/kernel"]
            stride, padding = network.first[1:] if layer == 0 else (1, kernel.shape[0] // 2)
            x = jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + weights[f"{layer}/bias"])
        yield x


def _by_first_side(side: int) -> str | None:
    """The network that begins with a kernel of so many pixels a side."""
    return {network.first[0]: name for name, network in _NETWORKS.items()}.get(side)


def _read(path: epath.PathLike, what: str) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(epath.Path(path).read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{str(path)!r} is no file; expected a safetensors file with {what}") from None
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is no safetensors file ({error}); expected one with {what}") from None

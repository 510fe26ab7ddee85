"""Makes lpips.json: distances of the lpips package (0.1.4, on torch) on random weights and pictures, to which `lpips` must come.

    python tests/models/vae/golden/make_lpips.py

It takes torch and lpips, and no torchvision: that package's features are built here, which lpips imports at its top.
"""

import json
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

# Layers of torchvision's `features`: the width of a 3x3 convolution, or its in, out, side, stride and padding; M is max-pooling.
VGG16 = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
ALEXNET = [(3, 64, 11, 4, 2), "M", (64, 192, 5, 1, 2), "M", (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1), "M"]


def features_of(net: str) -> nn.Sequential:
    """torchvision's `features` of VGG16 (configuration D) or AlexNet."""
    layers, width = [], 3
    for each in VGG16 if net == "vgg" else ALEXNET:
        if each == "M":
            layers.append(nn.MaxPool2d(2 if net == "vgg" else 3, 2))
            continue
        shape = each if net == "alex" else (width, each, 3, 1, 1)
        layers += [nn.Conv2d(*shape[:3], stride=shape[3], padding=shape[4]), nn.ReLU()]
        width = shape[1]
    return nn.Sequential(*layers)


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights that keep features of about one size: float32, drawn in the order of `shapes`. Heads are positive, as the public ones are."""
    random = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        drawn = random.standard_normal(shape)
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[name] = (np.abs(drawn) if name.startswith("lin") else drawn * scale).astype(np.float32)
    return found


def pictures(count: int, side: int, seed: int) -> np.ndarray:
    """Two of `count` pictures, float32 `[2, count, side, side, 3]` in [-1, 1]; the first pair is equal."""
    made = np.random.default_rng(seed).uniform(-1, 1, (2, count, side, side, 3)).astype(np.float32)
    made[1, 0] = made[0, 0]
    return made


def golden(net: str, side: int, seed: int) -> dict:
    import lpips

    model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    features = {name: value for name, value in features_of(net).state_dict().items()}
    shapes = {f"features.{name}": tuple(value.shape) for name, value in features.items()}
    shapes |= {f"lin{n}.model.1.weight": (1, width, 1, 1) for n, width in enumerate(model.chns)}
    weights = random_weights(shapes, seed)
    places = dict(model.net.named_parameters())  # sliceN.LAYER.weight, in which LAYER is the number in `features`
    for name, place in places.items():
        place.data = torch.from_numpy(weights[f"features.{name.split('.', 1)[1]}"])
    for n in range(5):
        getattr(model, f"lin{n}").model[1].weight.data = torch.from_numpy(weights[f"lin{n}.model.1.weight"])
    a, b = (torch.from_numpy(each).permute(0, 3, 1, 2) for each in pictures(3, side, seed + 1))
    b.requires_grad_()
    distance = model(a, b)
    distance.sum().backward()
    gradient = b.grad[1].abs().sum().item()
    return {
        "seed": seed,
        "side": side,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "distances": distance.flatten().tolist(),
        "gradient": gradient,  # of the sum of distances, its absolute values summed over the second picture
    }


if __name__ == "__main__":
    models = types.SimpleNamespace(
        **{
            name: lambda pretrained, net=net: types.SimpleNamespace(features=features_of(net))
            for name, net in (("vgg16", "vgg"), ("alexnet", "alex"))
        }
    )
    sys.modules["torchvision"] = types.SimpleNamespace(models=models)
    found = {net: golden(net, side, seed) for net, side, seed in (("vgg", 33, 0), ("alex", 40, 10))}
    pathlib.Path(__file__).with_name("lpips.json").write_text(json.dumps(found, indent=1) + "\n")

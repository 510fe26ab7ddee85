"""Writes ssim_values.npz beside it: pairs of clips, and what scikit-image (0.26) says of them. Needs scikit-image; the tests do not."""

import pathlib

import numpy as np
from skimage.metrics import structural_similarity


def clips():
    """(name, a, b): a picture and its noisy, blurred, darkened and inverted copies; three frames of another size."""
    draw = np.random.default_rng(0)
    y, x, c = np.meshgrid(np.arange(36), np.arange(44), np.arange(3), indexing="ij")
    waves = 128 + 50 * np.sin(x * y / 40 + c) + 40 * np.sign(np.sin(x / 5 - y / 7 + 2 * c))
    source = np.clip(waves, 0, 255).astype(np.uint8)[None]
    yield "noise", source, np.clip(source + draw.normal(0, 12, source.shape), 0, 255).astype(np.uint8)
    yield "blur", source, ((source.astype(float) + np.roll(source, 1, 1) + np.roll(source, 1, 2)) / 3).astype(np.uint8)
    yield "dark", source, (source * 0.6).astype(np.uint8)
    yield "inverse", source, 255 - source
    frames = np.stack([source[0, i : i + 20, i : i + 16] for i in (0, 9, 15)])
    yield "frames", frames, frames[::-1].copy()


def value(a, b):
    """Of `[T, H, W, 3]`, with the settings of Wang et al.; scikit-image leaves out the edge itself."""
    given = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)
    return np.mean([structural_similarity(x, y, **given) for x, y in zip(a, b)])


if __name__ == "__main__":
    found = {}
    for name, a, b in clips():
        found |= {f"{name}_a": a, f"{name}_b": b, f"{name}_ssim": value(a, b)}
        print(name, a.shape, found[f"{name}_ssim"])
    np.savez_compressed(pathlib.Path(__file__).with_name("ssim_values.npz"), **found)

"""What models and codecs do to pictures, so that the judge can be fitted and tested for it."""

import numpy as np


def blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur in space of float [T, H, W, 3]; sigma in pixels."""
    if sigma <= 0:
        return pixels
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        padded = np.pad(pixels, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="edge")
        n = pixels.shape[axis]
        cut = [slice(None)] * 4
        pixels = sum(k * padded[tuple(cut[:axis] + [slice(i, i + n)] + cut[axis + 1:])] for i, k in enumerate(kernel))
    return pixels


def _dct(size: int = 8) -> np.ndarray:
    k, n = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    basis = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * np.sqrt(2 / size)
    basis[0] /= np.sqrt(2)
    return basis


def codec(pixels: np.ndarray, step: float) -> np.ndarray:
    """Rounds 8x8 cosine coefficients of brightness to `step`, of colour (at half size) to twice that, like a video codec."""
    frames, height, width, _ = pixels.shape
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    colour = pixels - luma[..., None]
    tall, wide = -height % 16, -width % 16

    def rounded(plane, q):
        h, w = plane.shape[1:]
        basis = _dct()
        blocks = plane.reshape(frames, h // 8, 8, w // 8, 8)
        coefficients = np.einsum("ki,thiwj,lj->thkwl", basis, blocks, basis)
        q = q * (1 + 0.25 * (np.arange(8)[:, None, None] + np.arange(8)))
        coefficients = np.round(coefficients / q) * q
        return np.einsum("ki,thkwl,lj->thiwj", basis, coefficients, basis).reshape(frames, h, w)

    padding = ((0, 0), (0, tall), (0, wide))
    luma = rounded(np.pad(luma, padding, mode="edge"), step)[:, :height, :width]
    planes = []
    for c in range(3):
        plane = np.pad(colour[..., c], padding, mode="edge")
        half = 0.25 * (plane[:, ::2, ::2] + plane[:, 1::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, 1::2])
        planes.append(rounded(half, 2 * step).repeat(2, 1).repeat(2, 2)[:, :height, :width])
    return luma[..., None] + np.stack(planes, axis=-1)


def damaged(
    frames: np.ndarray, *, sigma: float = 0.0, noise: float = 0.0, step: float = 0.0, gain: float = 1.0, seed: int = 0
) -> np.ndarray:
    """uint8 [T, H, W, 3] after blur (pixels), noise (standard deviation, full scale 1), codec rounding and brightness gain."""
    pixels = blur(frames.astype(np.float32) / 255, sigma)
    if step:
        pixels = codec(pixels, step)
    if noise:
        pixels = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
    return np.clip(pixels * gain * 255 + 0.5, 0, 255).astype(np.uint8)

"""Layers of the causal VAE, each of which can go on where the frames before left off.

Videos are `[B, T, H, W, C]`. Every layer takes `first`: whether the frames it is given are a video's first. Applied with
`mutable=["cache"]` a layer leaves behind the few frames that the next call will want, and with `first=False` and that cache it goes on:
frames in chunks give what the whole video gives in one pass, with nothing computed twice (Wan, 2025, section 4.1, "feature cache").
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from videodit.models.vae.conv import convolve

_QUERIES = 1024  # of spatial attention at once: scores of a frame's queries against all its keys are what memory holds


def with_past(module: nn.Module, x, frames: int, keep: int, first: bool):
    """`x` after `frames` frames of zeros where it is a video's first, else after those that the call before kept: its last `keep`."""
    if first:
        x = jnp.pad(x, ((0, 0), (frames, 0), (0, 0), (0, 0), (0, 0)))
    elif keep:
        x = jnp.concatenate([module.get_variable("cache", "past").astype(x.dtype), x], axis=1)
    if keep and module.is_mutable_collection("cache"):
        module.put_variable("cache", "past", x[:, x.shape[1] - keep :])
    return x


class CausalConv(nn.Module):
    """3D convolution `[B, T, H, W, I] -> [B, T', H', W', O]` that sees no future frame. Its kernel is `[kt, kh, kw, I, O]`.

    `padding` is of rows and of columns, ((top, bottom), (left, right)); by default such that a stride of 1 keeps the size. Where
    `upsample`, rows and columns are doubled (nearest neighbour) before it. `before`: frames of zeros before a video's first, by default
    so many that there is an output for that one; with fewer, outputs begin later.
    """

    features: int
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None
    upsample: bool = False
    before: int | None = None
    dtype: str = "float32"
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x, first: bool = True):
        (kt, kh, kw), dtype = self.kernel, jnp.dtype(self.dtype)
        kernel = self.param("kernel", self.kernel_init, (kt, kh, kw, x.shape[-1], self.features)).astype(dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(dtype)
        x = with_past(self, x.astype(dtype), kt - 1 if self.before is None else self.before, kt - self.stride[0], first)
        if x.shape[1] < kt:  # no output yet
            return jnp.zeros((x.shape[0], 0, *x.shape[2:4], self.features), dtype)
        if self.upsample:
            x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        padding = self.padding or ((kh // 2, kh // 2), (kw // 2, kw // 2))
        return convolve(x, kernel, stride=self.stride, padding=padding) + bias


def channel_norm(module: nn.Module, x, name: str):
    """RMS normalisation over channels with a weight each, in float32."""
    weight = module.param(name, nn.initializers.ones, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-12) * weight).astype(x.dtype)


class LightBlock(nn.Module):
    """A causal 3x3x3 convolution and a product over channels around the identity; the latter starts at zero."""

    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        width = x.shape[-1]
        h = CausalConv(width, dtype=self.dtype, name="conv")(channel_norm(self, x, "norm"), first)
        return x + CausalConv(width, kernel=(1, 1, 1), dtype=self.dtype, name="out", kernel_init=nn.initializers.zeros)(nn.silu(h), first)


class ResidualBlock(nn.Module):
    """Two causal 3x3x3 convolutions around the identity, or around a product over channels where the width changes."""

    width: int
    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        h = CausalConv(self.width, dtype=self.dtype, name="conv1")(nn.silu(channel_norm(self, x, "norm1")), first)
        h = CausalConv(self.width, dtype=self.dtype, name="conv2")(nn.silu(channel_norm(self, h, "norm2")), first)
        if x.shape[-1] != self.width:
            x = CausalConv(self.width, kernel=(1, 1, 1), dtype=self.dtype, name="shortcut")(x, first)
        return x + h


class SpatialAttention(nn.Module):
    """Single-head attention of a frame's positions to each other, around the identity. Frames know nothing of each other."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        batch, frames, height, width, channels = x.shape
        qkv = CausalConv(3 * channels, kernel=(1, 1, 1), dtype=self.dtype, name="qkv")(channel_norm(self, x, "norm"))
        q, k, v = jnp.split(qkv.reshape(batch * frames, height * width, 3 * channels), 3, axis=-1)

        def attend(frame):
            q, k, v = frame
            return jax.lax.map(lambda query: _attend(query, k, v), q, batch_size=_QUERIES)

        seen = jax.lax.map(attend, (q, k, v)) if height * width > _QUERIES else jax.vmap(_attend)(q, k, v)
        out = CausalConv(channels, kernel=(1, 1, 1), dtype=self.dtype, name="out")(seen.reshape(x.shape))
        return x + out


def _attend(q, k, v):
    scores = jnp.einsum("...c,kc->...k", q, k, preferred_element_type=jnp.float32) / np.sqrt(q.shape[-1])
    return jnp.einsum("...k,kc->...c", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)


def to_blocks(pixels, stride: tuple[int, int, int], first: bool = True):
    """`[B, 1 + s k, H, W, C] -> [B, 1 + k, H', W', t * h * w * C]`; the first block is the first frame and its copies, so all are causal.

    Where not `first`, `[B, s k, ...] -> [B, k, ...]`.
    """
    if first:
        pixels = jnp.concatenate([jnp.repeat(pixels[:, :1], stride[0] - 1, axis=1), pixels], axis=1)
    return fold(pixels, stride)


def from_blocks(blocks, stride: tuple[int, int, int], first: bool = True):
    """The inverse of `to_blocks`."""
    pixels = unfold(blocks, stride)
    return pixels[:, stride[0] - 1 :] if first else pixels


def unfold(blocks, stride: tuple[int, int, int]):
    """The inverse of `fold`."""
    (t, h, w), (b, frames, rows, columns, n) = stride, blocks.shape
    channels = n // (t * h * w)
    pixels = blocks.reshape(b, frames, rows, columns, t, h, w, channels).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return pixels.reshape(b, frames * t, rows * h, columns * w, channels)


def fold(x, stride: tuple[int, int, int]):
    """Blocks to channels, ordered (time, height, width, channel): `[B, t k, H, W, C] -> [B, k, H', W', t * h * w * C]`."""
    (t, h, w), (b, frames, height, width, channels) = stride, x.shape
    blocks = x.reshape(b, frames // t, t, height // h, h, width // w, w, channels).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return blocks.reshape(*blocks.shape[:4], -1)


def average_down(x, features: int, stride: tuple[int, int, int], first: bool):
    """Blocks of `stride` to channels, and `features` means of neighbouring ones: a shortcut with no weights (DC-AE, Chen et al., 2024).

    Channels are ordered as Wan 2.2 (2025) has them, (channel, time, height, width), and its first block is zeros and the first frame.
    """
    if first:
        x = jnp.pad(x, ((0, 0), (stride[0] - 1, 0), (0, 0), (0, 0), (0, 0)))
    blocks = fold(x, stride)
    blocks = blocks.reshape(*blocks.shape[:4], -1, x.shape[-1]).swapaxes(-1, -2)
    return blocks.reshape(*blocks.shape[:4], features, -1).mean(-1)


def duplicate_up(x, features: int, stride: tuple[int, int, int], first: bool):
    """Channels, repeated as often as it takes, to blocks of `stride` with `features` channels: the way back from `average_down`."""
    times = features * int(np.prod(stride)) // x.shape[-1]
    x = jnp.repeat(x, times, axis=-1)
    x = x.reshape(*x.shape[:4], features, -1).swapaxes(-1, -2)
    return from_blocks(x.reshape(*x.shape[:4], -1), stride, first)


class Downsample(nn.Module):
    """One step down by `stride`: over space by a convolution of each frame, then over time by one of frames.

    A video's first frame stays as space made it; time's convolution makes one of the last frame before a pair and the pair (Wan, 2025).
    """

    stride: tuple[int, int, int]
    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        (time, *space), width = self.stride, x.shape[-1]
        if space != [1, 1]:
            x = CausalConv(width, kernel=(1, 3, 3), stride=(1, *space), padding=((0, 1), (0, 1)), dtype=self.dtype, name="space")(x, first)
        if time == 1:
            return x
        made = CausalConv(width, kernel=(3, 1, 1), stride=(2, 1, 1), before=0, dtype=self.dtype, name="time")(x, first)
        return jnp.concatenate([x[:, :1], made], axis=1) if first else made


class Upsample(nn.Module):
    """One step up by `stride`: over time, each frame but a video's first becomes two; then over space, with `features` channels."""

    features: int
    stride: tuple[int, int, int]
    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        time, *space = self.stride
        if time > 1:
            later = x[:, 1:] if first else x
            made = CausalConv(time * x.shape[-1], kernel=(3, 1, 1), dtype=self.dtype, name="time")(later, first)
            made = from_blocks(made, (time, 1, 1), first=False)
            x = jnp.concatenate([x[:, :1], made], axis=1) if first else made
        return CausalConv(self.features, kernel=(1, 3, 3), upsample=space != [1, 1], dtype=self.dtype, name="space")(x, first)


class ShuffleUp(nn.Module):
    """One step up by `stride`: channels become rows, columns and frames. A video's first frame stays one frame."""

    features: int
    stride: tuple[int, int, int]
    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        kernel = (3 if self.stride[0] > 1 else 1, 1, 1)
        x = CausalConv(self.features * int(np.prod(self.stride)), kernel=kernel, dtype=self.dtype, name="conv")(x, first)
        return from_blocks(x, self.stride, first)

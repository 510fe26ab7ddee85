"""The causal 3D variational autoencoder: videos to latents and back, an image being a video of one frame.

Causal in time (MAGVIT-v2, Yu et al., 2023, section 3; Wan 2.1, 2025): a frame is coded from itself and the past alone, the first
frame stands alone, and T = 1 + s * k frames become T' = 1 + k latents. Normalisation is over channels only, so what a frame becomes
does not depend on how long the video is.
"""

from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from videodit.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Residual blocks of one width, then a step down by `stride` (time, height, width), each 1 or 2."""

    width: int
    blocks: int = 1
    stride: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self):
        if any(s not in (1, 2) for s in self.stride):
            raise UserError(f"vae stage stride {self.stride}: each of (time, height, width) must be 1 or 2")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Shape of the autoencoder.

    Blocks of `fold` (time, height, width) pixels become channels first: 1s keep everything to the convolutions, a large fold leaves
    them little room and is cheap. The decoder has `decoder_blocks` more residual blocks a stage than the encoder.
    """

    latent_channels: int = 16
    fold: tuple[int, int, int] = (1, 4, 4)
    stages: tuple[Stage, ...] = field(
        default_factory=lambda: (Stage(width=64, stride=(2, 2, 2)), Stage(width=128, stride=(2, 1, 1)), Stage(width=128))
    )
    decoder_blocks: int = 1
    dtype: str = "float32"

    @property
    def stride(self) -> tuple[int, int, int]:
        """How many frames, rows and columns of pixels one latent stands for."""
        t, h, w = self.fold
        for stage in self.stages:
            t, h, w = t * stage.stride[0], h * stage.stride[1], w * stage.stride[2]
        return t, h, w


class CausalConv(nn.Module):
    """3D convolution `[B, T, H, W, I] -> [B, T', H', W', O]` that sees no future frame.

    The kernel is kept as `[kt, kh, kw, I, O]`. It runs as one 2D convolution over time-stacked channels, which XLA runs faster
    than its 3D convolution on the CPU and no slower on a GPU.
    """

    features: int
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)
    dtype: str = "float32"
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")

    @nn.compact
    def __call__(self, x):
        kt, kh, kw = self.kernel
        dtype = jnp.dtype(self.dtype)
        kernel = self.param("kernel", self.kernel_init, (kt, kh, kw, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x.astype(dtype)
        past = jnp.pad(x, ((0, 0), (kt - 1, 0), (0, 0), (0, 0), (0, 0)))
        frames = (x.shape[1] - 1) // self.stride[0] + 1
        stacked = jnp.concatenate(
            [jax.lax.slice_in_dim(past, i, i + (frames - 1) * self.stride[0] + 1, self.stride[0], axis=1) for i in range(kt)], axis=-1
        )
        flat = stacked.reshape(-1, *stacked.shape[2:])
        kernel2d = kernel.astype(dtype).transpose(1, 2, 0, 3, 4).reshape(kh, kw, -1, self.features)
        out = jax.lax.conv_general_dilated(
            flat, kernel2d, self.stride[1:], [(kh // 2, kh // 2), (kw // 2, kw // 2)], dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (out + bias.astype(dtype)).reshape(x.shape[0], frames, *out.shape[1:])


def channel_norm(module: nn.Module, x, name: str):
    """RMS normalisation over channels with a weight each, in float32."""
    weight = module.param(name, nn.initializers.ones, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6) * weight).astype(x.dtype)


class ResidualBlock(nn.Module):
    """A causal 3x3x3 convolution and a product over channels around the identity; the latter starts at zero."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        h = CausalConv(width, dtype=self.dtype, name="conv")(channel_norm(self, x, "norm"))
        return x + CausalConv(width, kernel=(1, 1, 1), dtype=self.dtype, name="out", kernel_init=nn.initializers.zeros)(nn.silu(h))


def to_blocks(pixels, stride: tuple[int, int, int]):
    """`[B, 1 + s k, H, W, C] -> [B, 1 + k, H', W', t * h * w * C]`; the first block is the first frame and its copies, so all are causal."""
    (t, h, w), (b, _, height, width, channels) = stride, pixels.shape
    past = jnp.concatenate([jnp.repeat(pixels[:, :1], t - 1, axis=1), pixels], axis=1)
    blocks = past.reshape(b, past.shape[1] // t, t, height // h, h, width // w, w, channels).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return blocks.reshape(*blocks.shape[:4], -1)


def from_blocks(blocks, stride: tuple[int, int, int]):
    """The inverse of `to_blocks`."""
    (t, h, w), (b, frames, rows, columns, n) = stride, blocks.shape
    pixels = blocks.reshape(b, frames, rows, columns, t, h, w, n // (t * h * w)).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return pixels.reshape(b, frames * t, rows * h, columns * w, -1)[:, t - 1 :]


class Upsample(nn.Module):
    """One step up by `stride`: channels become rows, columns and frames. The first frame stays one frame."""

    features: int
    stride: tuple[int, int, int]
    dtype: str

    @nn.compact
    def __call__(self, x):
        kernel = (3 if self.stride[0] > 1 else 1, 1, 1)
        x = CausalConv(self.features * int(np.prod(self.stride)), kernel=kernel, dtype=self.dtype, name="conv")(x)
        return from_blocks(x, self.stride)


# RGB to luma and two colour differences, rows of unit length, orthogonal: JPEG's axes up to scale.
_LUMA_CHROMA = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
_CHROMA_COST = 1.5  # a colour difference counts as this much higher in frequency
_START_LOG_VARIANCE = -10.0  # of a new model's latents: little noise, so that the decoder has something to learn from


def cosine_basis(stride: tuple[int, int, int], channels: int) -> np.ndarray:
    """float32 `[channels, t * h * w * 3]`: the lowest 3D-DCT functions (Ahmed et al., 1974) of a block of pixels, luma before colour.

    They are orthonormal.
    """
    wanted = sorted((sum(k) + (_CHROMA_COST if c else 0), c, k) for c in range(3) for k in np.ndindex(*stride))[:channels]
    rows = []
    for _, c, k in wanted:
        waves = [np.cos(np.pi * f * (np.arange(n) + 0.5) / n) * np.sqrt((2 if f else 1) / n) for f, n in zip(k, stride)]
        rows.append(np.einsum("t,h,w,c->thwc", *waves, _LUMA_CHROMA[c]).reshape(-1))
    return np.asarray(rows, np.float32)


class Encoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, pixels):
        c = self.config
        x = CausalConv(c.stages[0].width, kernel=(1, 1, 1), dtype=c.dtype, name="conv_in")(to_blocks(pixels, c.fold))
        for i, stage in enumerate(c.stages):
            for j in range(stage.blocks):
                x = ResidualBlock(c.dtype, name=f"stage{i}_block{j}")(x)
            if stage.stride != (1, 1, 1):
                width = c.stages[min(i + 1, len(c.stages) - 1)].width
                x = CausalConv(width, stride=stage.stride, dtype=c.dtype, name=f"stage{i}_down")(x)
        x = channel_norm(self, x, "norm_out")
        return CausalConv(2 * c.latent_channels, kernel=(1, 1, 1), dtype=c.dtype, name="conv_out", kernel_init=nn.initializers.zeros)(
            x
        ).astype(jnp.float32)


class Decoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, latents):
        c = self.config
        x = CausalConv(c.stages[-1].width, kernel=(1, 3, 3), dtype=c.dtype, name="conv_in")(latents)
        for i, stage in reversed(list(enumerate(c.stages))):
            if stage.stride != (1, 1, 1):
                x = Upsample(stage.width, stage.stride, c.dtype, name=f"stage{i}_up")(x)
            for j in range(stage.blocks + c.decoder_blocks):
                x = ResidualBlock(c.dtype, name=f"stage{i}_block{j}")(x)
        x = channel_norm(self, x, "norm_out")
        x = CausalConv(3 * int(np.prod(c.fold)), kernel=(1, 1, 1), dtype=c.dtype, name="conv_out", kernel_init=nn.initializers.zeros)(x)
        return from_blocks(x, c.fold).astype(jnp.float32)


class VAE(nn.Module):
    """`encode` gives a Gaussian's mean and log variance for each latent; `decode` gives pixels in about [-1, 1]."""

    config: VAEConfig

    def setup(self):
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        # The linear part starts as a 3D-DCT codec: a new model gives back a blurred video, and the rest learns what is missing.
        basis, scale = cosine_basis(self.config.stride, self.config.latent_channels), np.sqrt(np.prod(self.config.stride))
        self.linear_encode = self.param("linear_encode", lambda key: jnp.asarray(basis.T / scale))
        self.linear_decode = self.param("linear_decode", lambda key: jnp.asarray(basis * scale))

    def encode(self, pixels):
        """float `[B, 1 + s k, H, W, 3]` in [-1, 1] -> mean and log variance, float32 `[B, 1 + k, H', W', C]`."""
        mean, log_variance = jnp.split(self.encoder(pixels), 2, axis=-1)
        mean += to_blocks(pixels, self.config.stride) @ self.linear_encode
        return mean, jnp.clip(log_variance + _START_LOG_VARIANCE, -20.0, 10.0)

    def decode(self, latents):
        """float `[B, 1 + k, H', W', C]` -> float32 `[B, 1 + s k, H, W, 3]`, not clipped."""
        return self.decoder(latents) + from_blocks(latents @ self.linear_decode, self.config.stride)

    def __call__(self, pixels, key):
        """Reconstruction, mean and log variance; the latent is drawn with `key`."""
        mean, log_variance = self.encode(pixels)
        latents = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return self.decode(latents), mean, log_variance

"""The causal 3D variational autoencoder: videos to latents and back, an image being a video of one frame.

Causal in time (MAGVIT-v2, Yu et al., 2023, section 3; Wan 2.1, 2025): a frame is coded from itself and the past alone, the first
frame stands alone, and T = 1 + s * k frames become T' = 1 + k latents. Normalisation is over channels only, so what a frame becomes
does not depend on how long the video is.
"""

from dataclasses import dataclass, field

import flax.linen as nn
import jax
import jax.numpy as jnp

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
    """Shape of the autoencoder. Pixels are first folded by `fold` (height and width) into channels."""

    latent_channels: int = 8
    fold: int = 4
    stages: tuple[Stage, ...] = field(default_factory=lambda: (Stage(width=64, stride=(2, 2, 2)), Stage(width=128, stride=(2, 1, 1)), Stage(width=128)))
    decoder_blocks: int = 1  # more residual blocks a stage in the decoder than in the encoder
    dtype: str = "float32"

    @property
    def stride(self) -> tuple[int, int, int]:
        """How many frames, rows and columns of pixels one latent stands for."""
        t, h, w = 1, self.fold, self.fold
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
        stacked = jnp.concatenate([jax.lax.slice_in_dim(past, i, i + (frames - 1) * self.stride[0] + 1, self.stride[0], axis=1) for i in range(kt)], axis=-1)
        flat = stacked.reshape(-1, *stacked.shape[2:])
        kernel2d = kernel.astype(dtype).transpose(1, 2, 0, 3, 4).reshape(kh, kw, -1, self.features)
        out = jax.lax.conv_general_dilated(
            flat, kernel2d, self.stride[1:], [(kh // 2, kh // 2), (kw // 2, kw // 2)], dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return (out + bias.astype(dtype)).reshape(x.shape[0], frames, *out.shape[1:])


def channel_norm(module: nn.Module, x, name: str):
    """RMS normalisation over channels with a weight each, in float32."""
    weight = module.param(name, nn.initializers.ones, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6) * weight).astype(x.dtype)


class ResidualBlock(nn.Module):
    """Two causal convolutions around the identity; the second starts at zero."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        h = CausalConv(width, dtype=self.dtype, name="conv1")(nn.silu(channel_norm(self, x, "norm1")))
        h = CausalConv(width, dtype=self.dtype, name="conv2", kernel_init=nn.initializers.zeros)(nn.silu(channel_norm(self, h, "norm2")))
        return x + h


def fold_pixels(x, fold: int):
    """`[B, T, H, W, C] -> [B, T, H / fold, W / fold, fold * fold * C]`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // fold, fold, w // fold, fold, c)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // fold, w // fold, -1)


def unfold_pixels(x, fold: int):
    """The inverse of `fold_pixels`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, fold, fold, c // (fold * fold))
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * fold, w * fold, -1)


class Upsample(nn.Module):
    """One step up by `stride`: channels become rows, columns and frames. The first frame stays one frame."""

    features: int
    stride: tuple[int, int, int]
    dtype: str

    @nn.compact
    def __call__(self, x):
        t, h, w = self.stride
        x = CausalConv(self.features * t * h * w, kernel=(3, 1, 1) if t > 1 else (1, 1, 1), dtype=self.dtype, name="conv")(x)
        if h > 1:
            x = unfold_pixels(x, h)
        if t > 1:
            b, frames, height, width, c = x.shape
            x = x.reshape(b, frames, height, width, t, c // t).transpose(0, 1, 4, 2, 3, 5)
            x = x.reshape(b, frames * t, height, width, c // t)[:, t - 1:]
        return x


class Encoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, pixels):
        c = self.config
        x = CausalConv(c.stages[0].width, kernel=(1, 1, 1), dtype=c.dtype, name="conv_in")(fold_pixels(pixels, c.fold))
        for i, stage in enumerate(c.stages):
            for j in range(stage.blocks):
                x = ResidualBlock(c.dtype, name=f"stage{i}_block{j}")(x)
            if stage.stride != (1, 1, 1):
                width = c.stages[min(i + 1, len(c.stages) - 1)].width
                x = CausalConv(width, stride=stage.stride, dtype=c.dtype, name=f"stage{i}_down")(x)
        x = nn.silu(channel_norm(self, x, "norm_out"))
        return CausalConv(2 * c.latent_channels, kernel=(1, 1, 1), dtype=c.dtype, name="conv_out")(x).astype(jnp.float32)


class Decoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, latents):
        c = self.config
        x = CausalConv(c.stages[-1].width, dtype=c.dtype, name="conv_in")(latents)
        for i, stage in reversed(list(enumerate(c.stages))):
            if stage.stride != (1, 1, 1):
                x = Upsample(stage.width, stage.stride, c.dtype, name=f"stage{i}_up")(x)
            for j in range(stage.blocks + c.decoder_blocks):
                x = ResidualBlock(c.dtype, name=f"stage{i}_block{j}")(x)
        x = nn.silu(channel_norm(self, x, "norm_out"))
        x = CausalConv(3 * c.fold * c.fold, kernel=(1, 1, 1), dtype=c.dtype, name="conv_out")(x)
        return unfold_pixels(x, c.fold).astype(jnp.float32)


class VAE(nn.Module):
    """`encode` gives a Gaussian's mean and log variance for each latent; `decode` gives pixels in about [-1, 1]."""

    config: VAEConfig

    def setup(self):
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def encode(self, pixels):
        """float `[B, 1 + s k, H, W, 3]` in [-1, 1] -> mean and log variance, float32 `[B, 1 + k, H', W', C]`."""
        mean, log_variance = jnp.split(self.encoder(pixels), 2, axis=-1)
        return mean, jnp.clip(log_variance, -20.0, 10.0)

    def decode(self, latents):
        """float `[B, 1 + k, H', W', C]` -> float32 `[B, 1 + s k, H, W, 3]`, not clipped."""
        return self.decoder(latents)

    def __call__(self, pixels, key):
        """Reconstruction, mean and log variance; the latent is drawn with `key`."""
        mean, log_variance = self.encode(pixels)
        latents = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return self.decode(latents), mean, log_variance

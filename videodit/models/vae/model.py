"""The causal 3D variational autoencoder: videos to latents and back, an image being a video of one frame.

Causal in time (MAGVIT-v2, Yu et al., 2023, section 3; Wan 2.1, 2025): a frame is coded from itself and the past alone, the first
frame stands alone, and T = 1 + s * k frames become T' = 1 + k latents. Normalisation is over channels only, so what a frame becomes
does not depend on how long the video is.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from videodit.models.vae.config import VAEConfig
from videodit.models.vae.lapped import FromLapped, ToLapped
from videodit.models.vae.layers import (
    CausalConv,
    Downsample,
    LightBlock,
    ResidualBlock,
    ShuffleUp,
    SpatialAttention,
    Upsample,
    average_down,
    channel_norm,
    duplicate_up,
    from_blocks,
    to_blocks,
)

# RGB to luma and two colour differences, rows of unit length, orthogonal: JPEG's axes up to scale.
_LUMA_CHROMA = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
_CHROMA_COST = 1.5  # a colour difference counts as this much higher in frequency
_START_LOG_VARIANCE = -10.0  # of a new model's latents: little noise, so that the decoder has something to learn from


def cosine_basis(stride: tuple[int, int, int], channels: int, lapped: bool = False) -> np.ndarray:
    """float32 `[channels, t * h * w * 3]`: the lowest 3D-DCT functions (Ahmed et al., 1974) of a block of pixels, luma before colour.

    They are orthonormal. Of a lapped block the parts along time are frequencies already, the knot the lowest.
    """
    wanted = sorted((sum(k) + (_CHROMA_COST if c else 0), c, k) for c in range(3) for k in np.ndindex(*stride))[:channels]
    rows = []
    for _, c, k in wanted:
        waves = [np.cos(np.pi * f * (np.arange(n) + 0.5) / n) * np.sqrt((2 if f else 1) / n) for f, n in zip(k, stride)]
        if lapped:
            waves[0] = np.eye(stride[0])[k[0] - 1]
        rows.append(np.einsum("t,h,w,c->thwc", *waves, _LUMA_CHROMA[c]).reshape(-1))
    return np.asarray(rows, np.float32)


def blocks_of(config: VAEConfig, pixels, first: bool):
    """Pixels as the blocks of `fold` that an encoder begins with."""
    return ToLapped(config.fold, name="fold")(pixels, first) if config.lapped else to_blocks(pixels, config.fold, first)


def pixels_of(config: VAEConfig, blocks, first: bool):
    """The pixels, float32, of the blocks of `fold` that a decoder ends with."""
    blocks = blocks.astype(jnp.float32)
    return FromLapped(config.fold, name="fold")(blocks, first) if config.lapped else from_blocks(blocks, config.fold, first)


class LightEncoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, pixels, first: bool = True):
        c = self.config
        x = CausalConv(c.stages[0].width, kernel=(1, 1, 1), dtype=c.dtype, name="conv_in")(blocks_of(c, pixels, first), first)
        for i, stage in enumerate(c.stages):
            for j in range(stage.blocks):
                x = LightBlock(c.dtype, name=f"stage{i}_block{j}")(x, first)
            if stage.stride != (1, 1, 1):
                width = c.stages[min(i + 1, len(c.stages) - 1)].width
                x = CausalConv(width, stride=stage.stride, dtype=c.dtype, name=f"stage{i}_down")(x, first)
        x = channel_norm(self, x, "norm_out")
        out = CausalConv(2 * c.latent_channels, kernel=(1, 1, 1), dtype=c.dtype, name="conv_out", kernel_init=nn.initializers.zeros)
        return out(x, first).astype(jnp.float32)


class LightDecoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, latents, first: bool = True):
        c = self.config
        x = CausalConv(c.widths[-1], kernel=(1, 3, 3), dtype=c.dtype, name="conv_in")(latents, first)
        for i, (stage, width) in reversed(list(enumerate(zip(c.stages, c.widths)))):
            if stage.stride != (1, 1, 1):
                x = ShuffleUp(width, stage.stride, c.dtype, name=f"stage{i}_up")(x, first)
            for j in range(stage.blocks + c.decoder_blocks):
                x = LightBlock(c.dtype, name=f"stage{i}_block{j}")(x, first)
        x = channel_norm(self, x, "norm_out")
        out = CausalConv(3 * int(np.prod(c.fold)), kernel=(1, 1, 1), dtype=c.dtype, name="conv_out", kernel_init=nn.initializers.zeros)
        return pixels_of(c, out(x, first), first)


class Middle(nn.Module):
    """Two blocks around an attention over each frame."""

    dtype: str

    @nn.compact
    def __call__(self, x, first: bool = True):
        x = ResidualBlock(x.shape[-1], self.dtype, name="block0")(x, first)
        x = SpatialAttention(self.dtype, name="attention")(x)
        return ResidualBlock(x.shape[-1], self.dtype, name="block1")(x, first)


class FullEncoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, pixels, first: bool = True):
        c = self.config
        x = CausalConv(c.stages[0].width, dtype=c.dtype, name="conv_in")(blocks_of(c, pixels, first), first)
        for i, stage in enumerate(c.stages):
            whole = x
            for j in range(stage.blocks):
                x = ResidualBlock(stage.width, c.dtype, name=f"stage{i}_block{j}")(x, first)
            if stage.stride != (1, 1, 1):
                x = Downsample(stage.stride, c.dtype, name=f"stage{i}_down")(x, first)
            if c.shortcuts:
                x += average_down(whole, stage.width, stage.stride, first)
        x = nn.silu(channel_norm(self, Middle(c.dtype, name="middle")(x, first), "norm_out"))
        x = CausalConv(2 * c.latent_channels, dtype=c.dtype, name="conv_out", kernel_init=_last(c))(x, first)
        return CausalConv(2 * c.latent_channels, kernel=(1, 1, 1), dtype=c.dtype, name="conv_moments")(x, first).astype(jnp.float32)


class FullDecoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, latents, first: bool = True):
        c = self.config
        x = CausalConv(c.latent_channels, kernel=(1, 1, 1), dtype=c.dtype, name="conv_latents")(latents, first)
        x = CausalConv(c.widths[-1], dtype=c.dtype, name="conv_in")(x, first)
        x = Middle(c.dtype, name="middle")(x, first)
        for i in reversed(range(len(c.stages))):
            whole, width = x, c.widths[i]
            for j in range(c.stages[i].blocks + c.decoder_blocks):
                x = ResidualBlock(width, c.dtype, name=f"stage{i}_block{j}")(x, first)
            stride = c.stages[i - 1].stride if i else (1, 1, 1)
            if stride != (1, 1, 1):
                x = Upsample(width if c.shortcuts else width // 2, stride, c.dtype, name=f"stage{i}_up")(x, first)
                if c.shortcuts:
                    x += duplicate_up(whole, width, stride, first)
        x = nn.silu(channel_norm(self, x, "norm_out"))
        x = CausalConv(3 * int(np.prod(c.fold)), dtype=c.dtype, name="conv_out", kernel_init=_last(c))(x, first)
        return pixels_of(c, x, first)


def _last(config: VAEConfig) -> nn.initializers.Initializer:
    """How the network's last convolution starts: at zero beside a codec, which then is the whole model."""
    return nn.initializers.zeros if config.codec else nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class VAE(nn.Module):
    """`encode` gives a Gaussian's mean and log variance for each latent; `decode` gives pixels in about [-1, 1].

    Both go on with a video in chunks: see `layers` and `streaming`.
    """

    config: VAEConfig

    def setup(self):
        full = self.config.blocks == "full"
        self.encoder = (FullEncoder if full else LightEncoder)(self.config)
        self.decoder = (FullDecoder if full else LightDecoder)(self.config)
        if self.config.codec:
            stride, lapped = self.config.stride, self.config.lapped
            basis, scale = cosine_basis(stride, self.config.latent_channels, lapped), np.sqrt(np.prod(stride[lapped:]))
            if lapped:
                self.to_codec, self.from_codec = ToLapped(stride), FromLapped(stride)
            else:
                self.to_codec, self.from_codec = (functools.partial(each, stride=stride) for each in (to_blocks, from_blocks))
            self.linear_encode = self.param("linear_encode", lambda key: jnp.asarray(basis.T / scale))
            self.linear_decode = self.param("linear_decode", lambda key: jnp.asarray(basis * scale))

    def encode(self, pixels, first: bool = True):
        """float `[B, 1 + s k, H, W, 3]` in [-1, 1] -> mean and log variance, float32 `[B, 1 + k, H', W', C]`.

        Where not `first`, `[B, s k, ...] -> [B, k, ...]`, going on from the collection "cache".
        """
        mean, log_variance = jnp.split(self.encoder(pixels, first), 2, axis=-1)
        if self.config.codec:
            mean += self.to_codec(pixels, first=first) @ self.linear_encode
            log_variance += _START_LOG_VARIANCE
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def decode(self, latents, first: bool = True):
        """float `[B, 1 + k, H', W', C]` -> float32 `[B, 1 + s k, H, W, 3]`, not clipped.

        Where not `first`, `[B, k, ...] -> [B, s k, ...]`, going on from the collection "cache".
        """
        pixels = self.decoder(latents, first)
        if self.config.codec:
            pixels += self.from_codec(latents @ self.linear_decode, first=first)
        return pixels

    def __call__(self, pixels, key):
        """Reconstruction, mean and log variance; the latent is drawn with `key`."""
        mean, log_variance = self.encode(pixels)
        latents = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return self.decode(latents), mean, log_variance

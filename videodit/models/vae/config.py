"""The shape of the autoencoder."""

from dataclasses import dataclass, field
from typing import Literal

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
    them little room and is cheap. The decoder has `decoder_blocks` more residual blocks a stage than the encoder, and the widths
    `decoder_widths` where these are given, one a stage.

    `blocks`: "light" has a 3x3x3 convolution and a product over channels a block, and steps by shuffling channels into pixels; "full" has
    two 3x3x3 convolutions a block, steps by convolutions over space and then time, and two blocks around an attention over each frame in
    the middle (Wan 2.1, 2025). With `shortcuts` each full stage goes around itself by averaging and repeating channels (Wan 2.2, after
    DC-AE, Chen et al., 2024).

    `codec`: a linear part beside the network that starts as a 3D-DCT codec: a new model gives back a blurred video, and the network
    learns what is missing. Public weights have none.

    `lapped`: blocks of `fold` pixels, and those of the codec, overlap their neighbours in space and time (`lapped.py`), so that no seams
    show where they meet. Sides of 1 pixel stay as they are. Public weights have plain blocks.

    `whitening`: how far latent channels are brought to one variance for the transformer: 1, all the way; 0, not at all. Their mean variance
    becomes 1 in any case. Channels of a small variance say little of a picture; brought to 1 they count as much as those that say most.
    """

    latent_channels: int = 16
    fold: tuple[int, int, int] = (1, 4, 4)
    stages: tuple[Stage, ...] = field(
        default_factory=lambda: (Stage(width=64, stride=(2, 2, 2)), Stage(width=128, stride=(2, 1, 1)), Stage(width=128))
    )
    decoder_blocks: int = 1
    decoder_widths: tuple[int, ...] = ()
    blocks: Literal["light", "full"] = "light"
    shortcuts: bool = False
    codec: bool = True
    lapped: bool = True
    whitening: float = 1.0
    dtype: str = "float32"

    def __post_init__(self):
        strides = [stage.stride for stage in self.stages]
        if self.blocks == "full" and (strides[-1] != (1, 1, 1) or any(h != w for _, h, w in strides)):
            raise UserError(
                f"vae stages with strides {strides}: full blocks need equal strides of height and width, and (1, 1, 1) at the last stage"
            )
        if self.shortcuts and self.blocks != "full":
            raise UserError(f"vae.shortcuts is {self.shortcuts} with vae.blocks={self.blocks!r}, expected blocks='full'")
        if not 0 <= self.whitening <= 1:
            raise UserError(f"vae.whitening is {self.whitening:g}, expected 0 to 1")
        if self.lapped and any(side > 1 and side % 2 for block in (self.fold, self.stride) for side in block[1:]):
            raise UserError(f"vae.lapped is True with vae.fold={self.fold} and a stride of {self.stride}, expected even rows and columns")
        if self.decoder_widths and len(self.decoder_widths) != len(self.stages):
            raise UserError(f"vae.decoder_widths is {self.decoder_widths}, expected one for each of {len(self.stages)} stages, or none")

    @property
    def stride(self) -> tuple[int, int, int]:
        """How many frames, rows and columns of pixels one latent stands for."""
        t, h, w = self.fold
        for stage in self.stages:
            t, h, w = t * stage.stride[0], h * stage.stride[1], w * stage.stride[2]
        return t, h, w

    @property
    def widths(self) -> tuple[int, ...]:
        """The decoder's, one a stage, in the encoder's order."""
        return self.decoder_widths or tuple(stage.width for stage in self.stages)

"""Sizes of the transformer on one rule, from a smoke test's to a pod's."""

import dataclasses

from videodit.core.errors import UserError
from videodit.models.dit.model import DiTConfig

# Width by name. The name is about the number of parameters, 12 width^2 depth, without those of the text.
WIDTHS = {"2m": 192, "16m": 512, "125m": 1024, "1b": 2048, "3b": 3072, "8b": 4096, "30b": 6144}
BASE_WIDTH = 192  # the learning rate of the optimizer's config is for this width

# Parameters whose inputs are as many as the width: what learns slower in a wider model (`OptimizerConfig.base_width`).
OF_WIDTH = (
    *("qkv/kernel", "attention_out/kernel", "up/kernel", "down/kernel", "modulation/kernel", "head/kernel"),
    *("text_embed/out/kernel", "query/kernel", "key/kernel", "value/kernel", "gate/kernel"),  # of the text
)


def dit_config(size: str, **changes) -> DiTConfig:
    """The transformer of a size, with other fields as given.

    Depth grows with width, one layer for each 96 channels (4 at least): 12 width^2 parameters a layer make 8.7 B at width 4,096 with 43
    layers, the shape of language models of that size. Heads have 64 channels up to width 1,024 and 128 from there on, which fill a TPU's
    lanes. From 1 B on products are bfloat16 and a layer keeps what remat="named" keeps; at 30 B its input alone, since of a row of 32,768
    tokens the rest would be 125 GB.

    Raises UserError for a size that is not in `WIDTHS`.
    """
    if size not in WIDTHS:
        raise UserError(f"size {size!r}: expected one of {', '.join(WIDTHS)}")
    width = WIDTHS[size]
    big = width >= 2048
    config = DiTConfig(
        width=width,
        depth=max(4, round(width / 96)),
        heads=width // (128 if big else 64),
        patch=(1, 2, 2) if big else (1, 1, 1),
        dtype="bfloat16" if big else "float32",
        remat=("full" if width >= 6144 else "named") if big else "none",
    )
    return dataclasses.replace(config, **changes)

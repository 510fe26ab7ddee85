"""How the VAE lies on a mesh: every convolution's input channels over `fsdp`; activations are split over height and width
(`sharding/rules.py`), and XLA exchanges the rows and columns at their borders."""

AXES = {
    "kernel": (None, None, None, "embed", None),
}

_FIRST_AND_LAST = ("conv_in", "conv_out", "conv_latents", "conv_moments")


def hidden_matrices(path: str) -> tuple[int, int] | None:
    """Of the kernel of a convolution between the first and last layers: (0 axes that number matrices, all but the last axis are inputs)."""
    return (0, -1) if path.endswith("/kernel") and path.split("/")[-2] not in _FIRST_AND_LAST else None

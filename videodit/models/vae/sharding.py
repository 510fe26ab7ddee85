"""How the VAE lies on a mesh: every convolution's input channels over `fsdp`; activations are split over height and width
(`sharding/rules.py`), and XLA exchanges the rows and columns at their borders."""

AXES = {
    "kernel": (None, None, None, "embed", None),
}

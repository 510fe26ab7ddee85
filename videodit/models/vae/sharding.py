"""How the VAE's parameters lie on a mesh: every convolution's input channels over `fsdp`, its output channels over `tensor`."""

AXES = {
    "kernel": (None, None, None, "embed", "mlp"),
}

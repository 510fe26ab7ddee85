"""How the parameters of text encoders, of the embedder and of the refiner lie on a mesh: logical axes by the end of a parameter's path."""

_INTO, _OUT_OF = {"heads": ("embed", "heads"), "mlp": ("embed", "mlp")}, {"heads": ("heads", "embed"), "mlp": ("mlp", "embed")}
KERNELS = {
    **{f"{name}/kernel": _INTO["heads"] for name in ("query", "key", "value")},
    "attention_out/kernel": _OUT_OF["heads"],
    **{f"{name}/kernel": _INTO["mlp"] for name in ("gate", "up")},
    "down/kernel": _OUT_OF["mlp"],
}

# An encoder's blocks are stacked, the refiner's are not.
T5_AXES = {"token_embed/embedding": (None, "embed"), **{f"blocks/{name}": (None, *axes) for name, axes in KERNELS.items()}}
REFINER_AXES = {f"block[0-9]+/{name}": axes for name, axes in KERNELS.items()}
EMBEDDER_AXES = {
    "embedding": (None, None, "embed"),
    "out/kernel": ("mlp", "embed"),
    "project[0-9]+/kernel": (None, "embed"),
    **{f"refiner/{name}": axes for name, axes in REFINER_AXES.items()},
}

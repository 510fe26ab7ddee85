"""How the transformer's parameters lie on a mesh: logical axes by the end of a parameter's path."""

from videodit.models.text.sharding import EMBEDDER_AXES

AXES = {
    **{f"text_embed/{name}": axes for name, axes in EMBEDDER_AXES.items()},
    "blocks/qkv/kernel": (None, "embed", None, "heads", None),
    "blocks/attention_out/kernel": (None, "heads", "embed"),
    "blocks/up/kernel": (None, "embed", None, "mlp"),
    "blocks/down/kernel": (None, "mlp", "embed"),
    "modulation/kernel": ("embed", None),
    "final_modulation/kernel": ("embed", None),
    "condition_in/kernel": (None, "embed"),
    "patch_embed/kernel": (None, "embed"),
    "head/kernel": ("embed", None),
}


def hidden_matrices(path: str) -> tuple[int, int] | None:
    """Of a layer's kernels: (1 axis that numbers layers, 1 of inputs)."""
    return (1, 1) if path.startswith("blocks/") and path.endswith("/kernel") else None

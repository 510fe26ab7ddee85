"""How the transformer's parameters lie on a mesh: logical axes by the end of a parameter's path."""

AXES = {
    "blocks/qkv/kernel": (None, "embed", "heads"),
    "blocks/attention_out/kernel": (None, "heads", "embed"),
    "blocks/up/kernel": (None, "embed", "mlp"),
    "blocks/down/kernel": (None, "mlp", "embed"),
    "modulation/kernel": ("embed", "mlp"),
    "final_modulation/kernel": ("embed", "mlp"),
    "condition_in/kernel": (None, "embed"),
    "text_embed/embedding": (None, "embed"),
    "patch_embed/kernel": (None, "embed"),
    "head/kernel": ("embed", None),
}

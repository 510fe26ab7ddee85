"""Attention over packed rows, under one name."""

from videodit.attention.reference import packed_attention

__all__ = ["packed_attention"]

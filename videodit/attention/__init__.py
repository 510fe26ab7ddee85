"""Attention over packed rows, under one name."""

from videodit.attention.names import ATTENDED
from videodit.attention.packed import packed_attention
from videodit.attention.plan import AttentionPlan, make_plan, row_multiple

__all__ = ["ATTENDED", "AttentionPlan", "make_plan", "packed_attention", "row_multiple"]

"""Judges clips of the built-in worlds: reads pixels only and says what is shown, and how often that is what was asked."""

from videodit.evaluation.judge.score import compared, confusion, confusion_text, facts, judge_source, right, score, shares
from videodit.evaluation.judge.verdict import Judged, Verdict, judge

__all__ = ["Judged", "Verdict", "compared", "confusion", "confusion_text", "facts", "judge", "judge_source", "right", "score", "shares"]

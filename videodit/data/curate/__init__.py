"""Finds the clips in a media file, measures them, and cuts them out."""

from videodit.data.curate.clips import Candidate, Examination
from videodit.data.curate.config import CurateConfig
from videodit.data.curate.cutting import cut
from videodit.data.curate.examining import examine
from videodit.data.curate.hashing import near_duplicate

__all__ = ["Candidate", "CurateConfig", "Examination", "cut", "examine", "near_duplicate"]

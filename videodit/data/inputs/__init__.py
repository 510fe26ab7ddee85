"""What a dataset is made from: folders, buckets, globs, lists, tables and WebDataset tars of media files."""

from videodit.data.inputs.find import Inputs, find
from videodit.data.inputs.input import Input, digest

__all__ = ["Input", "Inputs", "digest", "find"]

"""Generation: every task by one model. `generate(load("runs/local"), Task(prompt="a red ball rolls left"))` gives clips as arrays."""

from videodit.generation.perform import generate
from videodit.generation.sample import load
from videodit.generation.tasks import Task

__all__ = ["Task", "generate", "load"]

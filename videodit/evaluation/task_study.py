"""The scenes that tasks are tried on, and the models that try them."""

from collections.abc import Callable
import dataclasses
from dataclasses import dataclass
import functools

from etils import epath
import numpy as np

from videodit.data import media
from videodit.data.worlds import captions
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import sample_scene
from videodit.data.worlds.scene import STILL, Scene
from videodit.generation.generator import Generator
from videodit.generation.perform import generate
from videodit.generation.tasks import Task
from videodit.training.config import ExperimentConfig

UNTRAINED = 8  # clips of an untrained model are much alike


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A scene with what is true of it: `clip` uint8 `[T, H, W, 3]`, longer than a window, at `size`; `truth` as the judge reads it."""

    scene: Scene
    prompt: str
    size: tuple[int, int]
    clip: np.ndarray
    truth: dict[str, str]
    colour: str


def cases(config: ExperimentConfig, count: int, frames: int, moving: bool = True) -> list[Case]:
    """Scenes of held-out combinations in which the solid moves, or stays, at the config's sizes in turn, rendered for `frames` frames."""
    worlds, sizes, fps = dataclasses.replace(config.data.worlds, split="held_out"), config.sample.sizes, config.sample.fps
    found: list[Case] = []
    for index in range(1000 * count):
        scene = sample_scene(worlds, index)
        solid, told = scene.solids[0], captions.describe(scene, frames=17, fps=fps)
        if len(found) == count:
            break
        if (solid.motion.direction != STILL) != moving or any(each.prompt == told["original"] for each in found):
            continue
        size = sizes[len(found) % len(sizes)]
        truth = {"shape": solid.shape, "colour": solid.colour, "motion": solid.motion.kind, "direction": solid.motion.direction}
        truth |= {"camera": scene.camera.move}
        clip = render(scene, frames=frames, height=size[0], width=size[1], fps=fps)
        found.append(Case(scene=scene, prompt=told["original"], size=size, clip=clip, truth=truth, colour=solid.colour))
    return found


@dataclass(kw_only=True, eq=False)
class Study:
    """Generators, and scenes to try tasks on."""

    config: ExperimentConfig
    generators: dict[str, Generator]
    time: int
    window: int
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    edits: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @property
    def fps(self) -> float:
        return self.config.sample.fps

    @functools.cached_property
    def cases(self) -> list[Case]:
        return cases(self.config, self.config.evaluate.tasks, self.window + self.time + 1)

    def video(self, frames: np.ndarray) -> bytes:
        """A file of frames, to the bit."""
        return media.encode_video(frames, self.fps, lossless=True)

    def made(self, task: Callable[[Case], Task]) -> dict[str, list[np.ndarray]]:
        """What both models make of a task of each case, of its size and with its own seed; the untrained one of the first few."""
        tasks = [dataclasses.replace(task(case), size=case.size, seed=number) for number, case in enumerate(self.cases)]
        few = {"untrained": tasks[:UNTRAINED]}
        return {
            name: generate(generator, *few.get(name, tasks), settings=self.config.sample) for name, generator in self.generators.items()
        }

    def rebuilt(self, clip: np.ndarray) -> np.ndarray:
        """A clip through the VAE."""
        return self.generators["ours"].vae.decode(self.generators["ours"].vae.encode(clip[None]))[0]

    def write_inputs(self, folder: epath.Path) -> None:
        """Some scenes as files."""
        for number, case in enumerate(self.cases[:4]):
            media.write(folder / f"still-{number}", case.clip[:1], self.fps)
            media.write(folder / f"clip-{number}", case.clip[: self.window], self.fps)


def mean(values) -> float:
    """Of the values that are numbers."""
    return float(np.nanmean(list(values)))

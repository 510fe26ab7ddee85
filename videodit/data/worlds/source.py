"""The worlds as a random-access source, and the prompts that ask for what training never showed."""

import zlib

from videodit.core.errors import UserError
from videodit.data.worlds import captions
from videodit.data.worlds.combinations import combinations, held_out
from videodit.data.worlds.config import WorldsConfig
from videodit.data.worlds.render import render_with_layers
from videodit.data.worlds.sampling import clip_shape, sample_scene
from videodit.data.worlds.scene import STILL
from videodit.data.worlds.state import state_of


class WorldsSource:
    """A grain random-access source of rendered clips.

    Item i is {"key": str, "frames": uint8 [T, H, W, 3], "fps": float, "captions": {"original", "descriptive"},
    "state": dict (see state.py)} and depends on nothing but (config, i).
    """

    def __init__(self, config: WorldsConfig):
        self.config = config

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> dict:
        config, index = self.config, int(index)
        if not 0 <= index < config.count:
            raise IndexError(f"clip {index} of {config.count}")
        scene = sample_scene(config, index)
        frames, height, width = clip_shape(config, index)
        pixels, parts = render_with_layers(scene, frames=frames, height=height, width=width, fps=config.fps)
        return {
            "key": f"worlds-{config.split}-{config.seed}-{index:06d}",
            "frames": pixels,
            "fps": config.fps,
            "captions": captions.describe(scene, frames=frames, fps=config.fps),
            "state": state_of(scene, parts, frames, height, width, config.fps),
        }

    def __repr__(self) -> str:  # grain stores it with a checkpoint, so it must say what the data are
        return f"WorldsSource({self.config!r})"


def prompts(config: WorldsConfig) -> list[dict]:
    """One prompt for each held-out combination of the config: {"prompt", "shape", "colour", "motion", "direction", "then", "camera"}.

    A share `camera_odds` of them, picked by a stable hash, asks for a moving camera. Raises UserError when nothing is held out.
    """
    out = []
    for shape, colour, motion, direction in combinations(config.shapes, config.colours, config.motions, config.directions):
        if not held_out(shape, colour, motion, direction, share=config.held_out_share):
            continue
        draw = zlib.crc32(f"camera {shape} {colour} {motion} {direction}".encode())
        move, then = STILL, STILL
        if config.moving_cameras and (draw % 1000 < 1000 * config.camera_odds or STILL not in config.cameras):
            move = config.moving_cameras[(draw // 1000) % len(config.moving_cameras)]
        if motion == "turns":
            then = (("closer", "away") if direction in ("left", "right") else ("left", "right"))[draw % 2]
        name = ("an " if colour[0] in "aeiou" else "a ") + f"{colour} {shape}"
        out.append({"prompt": captions.original([(name, captions.phrase(motion, direction, then))], move), "shape": shape,
                    "colour": colour, "motion": motion, "direction": direction, "then": then, "camera": move})
    if not out:
        raise UserError(f"worlds.held_out_share is {config.held_out_share}, which holds out nothing to prompt for; use 0.1")
    # Neighbours in the list should differ, so that the first few already show variety.
    return sorted(out, key=lambda each: zlib.crc32(each["prompt"].encode()))

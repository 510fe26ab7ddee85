"""The built-in worlds: small, true 3D scenes with captions and their own state, rendered at any size and length."""

from videodit.data.worlds.captions import describe
from videodit.data.worlds.combinations import held_out
from videodit.data.worlds.config import WorldsConfig
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import clip_shape, sample_scene
from videodit.data.worlds.scene import Camera, Ground, Motion, Scene, Solid
from videodit.data.worlds.source import WorldsSource, prompts
from videodit.data.worlds.state import trace

__all__ = ["Camera", "Ground", "Motion", "Scene", "Solid", "WorldsConfig", "WorldsSource", "clip_shape", "describe", "held_out",
           "prompts", "render", "sample_scene", "trace"]

"""LPIPS of clips is the mean over frames, is off without weights, and is left out where frames are too small."""

import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from videodit.core.errors import UserError
from videodit.evaluation.perceptual import load_perceptual
from videodit.models.vae.losses import PerceptualConfig
from videodit.models.vae.perceptual import load_weights, lpips

SHAPES = json.loads((pathlib.Path(__file__).parents[1] / "models" / "vae" / "golden" / "lpips.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """AlexNet's layers and heads, with random values."""
    folder, draw = tmp_path_factory.mktemp("lpips"), np.random.default_rng(0)
    shapes = next(each["shapes"] for each in SHAPES.values() if each["shapes"]["features.0.weight"][-1] == 11)
    weights = {name: np.abs(draw.normal(0, 0.05, shape)).astype(np.float32) for name, shape in shapes.items()}
    for file, part in (("network", "features."), ("heads", "lin")):
        save_file({name: value for name, value in weights.items() if name.startswith(part)}, folder / f"{file}.safetensors")
    return str(folder / "network.safetensors"), str(folder / "heads.safetensors")


def test_a_clip_is_as_far_as_its_frames_are_on_average(files):
    a, b = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 40, 3), np.uint8)
    b[0] = a[0]
    found = load_perceptual(PerceptualConfig(network=files[0], heads=files[1], weight=0.0))  # measured though it is not trained on
    wanted = jax.jit(lpips)(load_weights(*files), a / np.float32(127.5) - 1, b / np.float32(127.5) - 1)
    assert found(a, b) == pytest.approx(float(wanted.mean()), rel=1e-4) and wanted[1] > 0
    assert found(a, a) == pytest.approx(0, abs=1e-9)


def test_frames_too_small_for_the_network_have_none(files):
    small = np.zeros((1, 24, 24, 3), np.uint8)
    assert load_perceptual(PerceptualConfig(network=files[0], heads=files[1]))(small, small) is None


def test_without_weights_it_is_off():
    assert load_perceptual(PerceptualConfig()) is None


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="is no file"):
        load_perceptual(PerceptualConfig(network=str(tmp_path / "a"), heads=str(tmp_path / "b")))

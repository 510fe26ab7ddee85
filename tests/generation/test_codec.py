"""One file through a VAE: back come as many frames, at the same rate, whatever plan memory asks for."""

import json
import zipfile

import numpy as np
import pytest

from videodit import cli
from videodit.core.errors import UserError
from videodit.data import media
from videodit.evaluation.quality import psnr_db
from videodit.generation.codec import codec
from videodit.training.restore import load_vae


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """11 frames of 37x26 at 12 a second: they fill neither the last latent nor the grid of 8."""
    t, y, x = np.meshgrid(np.arange(11), np.arange(26), np.arange(37), indexing="ij")
    frames = np.stack([4 * x + 5 * t, 6 * y, 3 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)
    return media.write(tmp_path_factory.mktemp("codec") / "clip", frames, 12.0)


def test_a_video_comes_back_with_its_frames_and_rate(tiny_latents, clip, tmp_path):
    told = codec(tiny_latents / "vae", clip, tmp_path / "clip.npz")
    assert (told["frames"], told["height"], told["width"]) == (11, 24, 32) and told["peak_memory_bytes"] > 0
    codec(tiny_latents / "vae", tmp_path / "clip.npz", tmp_path / "back.mp4")
    info = media.check(tmp_path / "back.mp4")
    assert (info.frames, info.fps, info.height, info.width) == (11, 12.0, 24, 32)
    assert psnr_db(media.decode(tmp_path / "back.mp4"), media.decode(clip, size=(24, 32))) > 15


def test_latents_are_those_of_one_pass(tiny_latents, clip, tmp_path):
    codec(tiny_latents / "vae", clip, tmp_path / "clip.npz")
    with zipfile.ZipFile(tmp_path / "clip.npz") as archive:
        told = json.loads(archive.read("video.json"))
    with np.load(tmp_path / "clip.npz") as arrays:
        found = np.concatenate([arrays[name] for name in sorted(arrays.files) if name.startswith("latents/")])
    vae = load_vae(tiny_latents / "vae")
    frames = media.decode(clip, size=(24, 32))
    whole = vae.encode(np.concatenate([frames, frames[-1:], frames[-1:]])[None])[0]  # 1 + 3 * 4 frames
    np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())
    assert told["vae"] == vae.fingerprint and told["frames"] == 11


def test_an_image_is_a_video_of_one_frame(tiny_latents, tmp_path):
    picture = media.write(tmp_path / "picture", np.full((1, 16, 24, 3), 99, np.uint8), 1.0)
    codec(tiny_latents / "vae", picture, tmp_path / "picture.npz")
    codec(tiny_latents / "vae", tmp_path / "picture.npz", tmp_path / "back.png")
    vae = load_vae(tiny_latents / "vae")
    whole = vae.decode(vae.encode(media.decode(picture)[None]))[0]
    assert whole.shape == (1, 16, 24, 3) and np.abs(media.decode(tmp_path / "back.png").astype(int) - whole).max() <= 1


def test_what_cannot_be_is_said(tiny_latents, clip, tmp_path):
    vae = tiny_latents / "vae"
    with pytest.raises(UserError, match="expected one of them to be latents, named .npz"):
        codec(vae, clip, tmp_path / "other.mp4")
    with pytest.raises(UserError, match="at 4x4 is smaller than a latent"):
        codec(vae, clip, tmp_path / "clip.npz", size=(4, 4))
    with pytest.raises(UserError, match="0.00 GB are too few to encode 32x24"):
        codec(vae, clip, tmp_path / "clip.npz", budget=1000)
    assert not (tmp_path / "clip.npz").exists()
    codec(vae, clip, tmp_path / "clip.npz")
    with zipfile.ZipFile(tmp_path / "clip.npz") as archive, zipfile.ZipFile(tmp_path / "other.npz", "w") as other:
        other.writestr("video.json", archive.read("video.json").replace(b'"vae": "', b'"vae": "0'))
    with pytest.raises(UserError, match="encoded by another VAE"):
        codec(vae, tmp_path / "other.npz", tmp_path / "back.mp4")


def test_the_verb_says_what_it_made(tiny_latents, clip, tmp_path, capsys):
    assert cli.main(["codec", str(clip), str(tmp_path / "clip.npz"), f"--workdir={tiny_latents / 'vae'}", "--memory_gb=2"]) == 0
    assert "11 frames of 32x24" in capsys.readouterr().out
    assert cli.main(["codec", str(clip), f"--workdir={tiny_latents / 'vae'}"]) == 2
    assert "codec takes two files, IN and OUT, and got 1" in capsys.readouterr().err

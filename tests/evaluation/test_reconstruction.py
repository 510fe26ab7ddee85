"""Held-out clips are reconstructed at their own sizes."""

import numpy as np

from videodit.data import media
from videodit.data.pipeline import read_window
from videodit.evaluation.reconstruction import held_out_windows, reconstruct, reconstruction_picture, write_reconstructions
from videodit.training.jobs import vae_model
from videodit.training.restore import load_vae


def test_windows_are_of_the_held_out_split_and_spread_over_it(tiny, tiny_latents):
    dataset, windows = held_out_windows(tiny(), tiny_latents / "dataset", 4)
    assert dataset.split == "held_out" and len(windows) == 4 and windows[0].record == 0 and windows[-1].record == len(dataset) - 1
    assert len(held_out_windows(tiny(), tiny_latents / "dataset", 10**6)[1]) >= len(dataset)


def test_reconstructions_come_in_the_order_of_the_windows_at_their_own_sizes(tiny, tiny_latents):
    dataset, windows = held_out_windows(tiny(), tiny_latents / "dataset", 5)
    vae = load_vae(tiny_latents / "vae")
    pairs = list(reconstruct(tiny(), dataset, vae, windows))
    for window, (source, made) in zip(windows, pairs, strict=True):
        assert source.shape == made.shape == (window.frames, window.height, window.width, 3)
        assert source.dtype == made.dtype == np.uint8
        assert (source == read_window(dataset, window, 8.0)).all()
    same = [i for i, window in enumerate(windows) if window.size == windows[0].size]
    together = vae.decode(vae.encode(np.stack([pairs[i][0] for i in same])))
    assert np.abs(together.astype(int) - np.stack([pairs[i][1] for i in same])).max() <= 1


def test_a_picture_shows_source_reconstruction_and_difference(tmp_path):
    source = np.full((5, 8, 8, 3), 100, np.uint8)
    (tmp_path / "picture.png").write_bytes(reconstruction_picture([(source, source + np.uint8(10))], frames=2, times=1))
    pixels = media.decode(tmp_path / "picture.png")[0]
    assert {100, 110, 168} <= set(np.unique(pixels))


def test_training_writes_its_picture(tiny, tiny_latents, tmp_path):
    config = tiny("vae")
    write_reconstructions(config, tiny_latents / "dataset", vae_model(config), load_vae(tiny_latents / "vae").params, tmp_path)
    assert media.probe(tmp_path / "reconstruction.png").kind == "image"

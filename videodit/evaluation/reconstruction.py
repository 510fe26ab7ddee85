"""Held-out clips and what a VAE gives back of them, and pictures of source, reconstruction and difference."""

from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath
import numpy as np

from videodit.core.files import write_atomically
from videodit.data.dataset import ClipDataset
from videodit.data.media import encode_image
from videodit.data.pipeline import Window, all_windows, read_window
from videodit.evaluation.pictures import above, enlarge, strip
from videodit.training.config import ExperimentConfig
from videodit.training.models import VAEModel
from videodit.training.restore import TrainedVAE, trained_vae


def held_out_windows(config: ExperimentConfig, directory: epath.PathLike, count: int) -> tuple[ClipDataset, list[Window]]:
    """The held-out split, and `count` of its windows at the size that latents are made at, spread over it.

    A folder of few clips holds none out: then it is the train split.
    """
    for split in ("held_out", "train"):
        dataset = ClipDataset(directory, split)
        windows = all_windows(dataset, config.latents.policy)
        if windows:
            break
    return dataset, [windows[i] for i in np.unique(np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int))]


def reconstruct(
    config: ExperimentConfig, dataset: ClipDataset, vae: TrainedVAE, windows: Iterable[Window]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(source, reconstruction) of each window in turn, uint8 `[T, H, W, 3]`: one at a time, so memory does not grow with their number."""
    for window in windows:
        source = read_window(dataset, window, config.latents.policy.fps)
        yield source, vae.decode(vae.encode(source[None]))[0]


def write_reconstructions(
    config: ExperimentConfig, directory: epath.PathLike, model: VAEModel, params: Any, to: epath.Path, count: int = 2
) -> None:
    """Writes `to/reconstruction.png`: strips of source, reconstruction and difference (times 4, on grey), clip after clip, of one shape."""
    dataset, windows = held_out_windows(config, directory, config.evaluate.reconstructions)
    longest = max(windows, key=lambda window: window.frames)
    chosen = [w for w in windows if (w.frames, w.height, w.width) == (longest.frames, longest.height, longest.width)][:count]
    vae = trained_vae(model, params, {"mean": np.zeros(config.vae.latent_channels), "square": np.ones(config.vae.latent_channels)})
    write_atomically(to / "reconstruction.png", reconstruction_picture(list(reconstruct(config, dataset, vae, chosen))))


def reconstruction_picture(pairs: list[tuple[np.ndarray, np.ndarray]], frames: int = 5, times: int = 2) -> bytes:
    """A PNG: for each pair a strip of the source, one of the reconstruction, and one of their difference times 4 on grey."""
    strips = []
    for source, made in pairs:
        difference = np.clip(128 + 4 * (made.astype(np.int16) - source), 0, 255).astype(np.uint8)
        strips.append(above([strip(each, frames) for each in (source, made, difference)]))
    return encode_image(enlarge(above(strips), times))

"""A VAE on held-out clips: quality by size beside bicubic scaling of the same compression, and the health of its latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath
import numpy as np

from videodit.core.files import write_atomically
from videodit.data.pipeline import Window
from videodit.data.sizes import tokens
from videodit.evaluation.bicubic import through_numbers, through_size
from videodit.evaluation.latent_health import LatentHealth
from videodit.evaluation.perceptual import Perceptual, load_perceptual
from videodit.evaluation.quality import flicker, psnr_db, ssim
from videodit.evaluation.reconstruction import held_out_windows, reconstruct, reconstruction_picture
from videodit.evaluation.seams import Seams, compared, seams_of_pair, sum_of
from videodit.evaluation.sharpness import edge_sharpness
from videodit.training.config import ExperimentConfig, dataset_path
from videodit.training.restore import TrainedVAE

MEASURES = ("psnr_db", "ssim", "lpips", "flicker")
CODECS = ("vae", "same_numbers", "same_stride")  # the VAE, and the two bicubic ones it is measured against
_PICTURES = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A window, and the measures of what each codec makes of it: `of[codec][measure]`, None where one does not apply.

    `seams` holds the sums of steps of the VAE's clip and of its source, (made, true); None where they were not taken.
    """

    window: Window
    of: dict[str, dict[str, float | None]]
    seams: tuple[Seams, Seams] | None = None


def evaluate_vae(config: ExperimentConfig, workdir: epath.Path, vae: TrainedVAE) -> dict[str, Any]:
    """Measures a VAE on held-out clips at the sizes of `config.latents.policy`, and writes `evaluation/reconstruction.png`.

    Returns figures as JSON holds them: `all`, `stills`, `videos` and `sizes` are rows of the table (see `table_row`); `psnr_db`, `ssim` and
    `above_bicubic_db` (at as many numbers) repeat those of `all`; `compression` is pixels times channels for each number of the latents
    over the same clips; `latents` is their health; `lpips` names the file of its network, None where it is off. `split` says which clips:
    a folder that is too small to hold any out is measured on its training clips.
    """
    dataset, windows = held_out_windows(config, dataset_path(config, workdir), config.evaluate.reconstructions)
    stride, channels = vae.model.config.stride, vae.model.config.latent_channels
    settings = config.vae_training.loss.perceptual
    lpips = load_perceptual(settings)
    longest = _longest(windows, _PICTURES)
    health, measured, shown, pixels = LatentHealth(channels), [], {}, 0
    for i, (source, made) in enumerate(reconstruct(config, dataset, vae, windows)):
        numbers = tokens(source.shape[:3], stride) * channels
        of, seams = measure(source, made, numbers, stride, lpips), seams_of_pair(made, source, stride)
        measured.append(Measured(window=windows[i], of=of, seams=seams))
        health.add(*vae.posterior(source[None]), pixels=source.size // 3)
        pixels += source.size
        if i in longest:
            shown[i] = source, made
    write_atomically(workdir / "evaluation" / "reconstruction.png", reconstruction_picture([shown[i] for i in longest]))
    found = rows(measured)
    return {
        "psnr_db": found["all"]["vae"]["psnr_db"],
        "ssim": found["all"]["vae"]["ssim"],
        "above_bicubic_db": found["all"]["above_db"]["same_numbers"],
        "clips": found["all"]["clips"],
        "windows": len(windows),
        "split": dataset.split,
        "compression": pixels / (health.latents * channels),
        "stride": list(stride),
        "latent_channels": channels,
        "lpips": epath.Path(settings.network).name if lpips else None,
        **found,
        "latents": health.figures() | _normalised(health, vae),
    }


def _longest(windows: Sequence[Window], count: int) -> list[int]:
    """The numbers of the longest windows, of different clips."""
    of_record: dict[int, int] = {}
    for i in sorted(range(len(windows)), key=lambda i: -windows[i].frames):
        of_record.setdefault(windows[i].record, i)
    return list(of_record.values())[:count]


def measure(
    source: np.ndarray, made: np.ndarray, numbers: int, stride: tuple[int, int, int], lpips: Perceptual | None
) -> dict[str, dict[str, float | None]]:
    """By codec and measure, of a source and its reconstruction, uint8 `[T, H, W, 3]`; bicubic to as many `numbers`, and by `stride`."""
    frames, height, width = source.shape[:3]
    small = (1 + (frames - 1) // stride[0], height // stride[1], width // stride[2])
    clips = {"vae": made, "same_numbers": through_numbers(source, numbers).clip, "same_stride": through_size(source, small).clip}
    return {
        name: {
            "psnr_db": psnr_db(source, clip),
            "ssim": ssim(source, clip),
            "lpips": lpips(source, clip) if lpips else None,
            "flicker": flicker(source, clip),
            "edges": edge_sharpness(source, clip),
        }
        for name, clip in clips.items()
    }


def rows(measured: Sequence[Measured]) -> dict[str, Any]:
    """`all`, `stills` and `videos` (None where there are none), and `sizes`, one a (frames, height, width), the most frequent first."""
    by_size: dict[tuple[int, int, int], list[Measured]] = {}
    for each in measured:
        by_size.setdefault(each.window.size, []).append(each)
    kinds = {
        "stills": [each for each in measured if each.window.frames == 1],
        "videos": [each for each in measured if each.window.frames > 1],
        "all": list(measured),
    }
    ordered = sorted(by_size.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        "sizes": [table_row("x".join(map(str, size)), members) for size, members in ordered],
        **{name: table_row(name, members) if members else None for name, members in kinds.items()},
    }


def table_row(name: str, members: Sequence[Measured]) -> dict[str, Any]:
    """Means over windows, by codec and measure (None where it applies to none), and how many dB the VAE is `above_db` each other codec.

    `edges` says by codec how sharp the source's edges are, 1 as in the source (see `edge_sharpness`). `seams` are those of the VAE's clips
    beside the sources', from steps over all windows (see `seam_figures`); absent where none were taken.
    """
    means = {codec: {measure: _mean([each.of[codec][measure] for each in members]) for measure in MEASURES} for codec in CODECS}
    return {
        "size": name,
        "clips": len({each.window.record for each in members}),
        "windows": len(members),
        **means,
        "above_db": {codec: means["vae"]["psnr_db"] - means[codec]["psnr_db"] for codec in CODECS[1:]},
        "edges": {codec: _mean([each.of[codec].get("edges") for each in members]) for codec in CODECS},
        **_seams([each.seams for each in members if each.seams]),
    }


def _seams(pairs: Sequence[tuple[Seams, Seams]]) -> dict[str, Any]:
    return {"seams": compared(*(sum_of(each) for each in zip(*pairs)))} if pairs else {}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _normalised(health: LatentHealth, vae: TrainedVAE) -> dict[str, list[float]]:
    """The held-out latents after the VAE's own statistics: about 0 and 1 by channel where these are right."""
    found = health.figures()
    mean, std = (np.asarray(found[name]) for name in ("mean", "std"))
    return {"normalised_mean": ((mean - vae.mean) / vae.std).tolist(), "normalised_std": (std / vae.std).tolist()}

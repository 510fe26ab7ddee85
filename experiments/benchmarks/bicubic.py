#!/usr/bin/env python3
"""What a VAE has to beat: PSNR of real clips after codecs that learn nothing, at the same number of numbers.

    python experiments/benchmarks/bicubic.py --clips DIR [--json]

DIR holds media files; its folder `awkward` is left out. Of every clip that `videodit prepare` finds in them the middle window is taken:
8 frames a second, at most 17 frames, about 128x80 pixels. For each compression (frames x height x width of a latent, and its channels)
the mean over clips of:

- a: bicubic down to as many numbers and up again, with the split between time and space that suits each clip best;
- the same with one split for all: time by 1, 2, 4 or 8, the rest from height and width;
- b: bicubic down by the stride and up, 3 channels;
- 3D-DCT: the lowest frequencies of each block, as many as there are channels, the first frame a block of its own.
"""

import argparse
import json
from pathlib import Path
import tempfile

import numpy as np

from videodit.data.dataset import ClipDataset
from videodit.data.pipeline import all_windows, read_window
from videodit.data.prepare import DataConfig, prepare
from videodit.data.sizes import SizePolicy, tokens
from videodit.evaluation.bicubic import TIME_FACTORS, sizes_of_numbers, through_size
from videodit.evaluation.quality import psnr_db
from videodit.models.vae.layers import from_blocks, to_blocks
from videodit.models.vae.model import cosine_basis

POLICY = SizePolicy(fps=8.0, max_frames=17, grid=(8, 16, 16), max_tokens=120)  # every point below divides the grid
POINTS = (((4, 8, 8), 16), ((8, 8, 8), 24), ((4, 16, 16), 48), ((8, 16, 16), 64))


def real_clips(folder: Path, workdir: Path) -> list[np.ndarray]:
    """The middle window of every clip, uint8 `[T, H, W, 3]`."""
    prepare(DataConfig(source="files", inputs=str(folder), held_out_share=0.0), workdir)
    dataset, windows = ClipDataset(workdir), {}
    for window in all_windows(dataset, POLICY):
        if "awkward" not in Path(dataset.keys[window.record]).parts:
            windows.setdefault(window.record, []).append(window)
    return [read_window(dataset, each[len(each) // 2], POLICY.fps) for each in windows.values()]


def through_cosines(clip: np.ndarray, stride: tuple[int, int, int], channels: int) -> np.ndarray:
    """The clip after a 3D-DCT that keeps `channels` coefficients of each block."""
    basis = cosine_basis(stride, channels)
    blocks = np.asarray(to_blocks(clip[None].astype(np.float32) - 127.5, stride))
    back = np.asarray(from_blocks(blocks @ basis.T @ basis, stride))[0]
    return np.clip(np.round(back + 127.5), 0, 255).astype(np.uint8)


def of_clip(clip: np.ndarray, stride: tuple[int, int, int], channels: int) -> dict[str, float]:
    """PSNR in dB after each codec."""
    frames, height, width = clip.shape[:3]
    sizes = sizes_of_numbers(clip.shape[:3], tokens(clip.shape[:3], stride) * channels)
    split = {size[0]: psnr_db(clip, through_size(clip, size).clip) for size in sizes}
    small = (1 + (frames - 1) // stride[0], height // stride[1], width // stride[2])
    return {
        "a": max(split.values()),
        **{f"time by {factor}": split[1 + (frames - 1) // factor] for factor in TIME_FACTORS},
        "b": psnr_db(clip, through_size(clip, small).clip),
        "3D-DCT": psnr_db(clip, through_cosines(clip, stride, channels)),
    }


def measure(clips: list[np.ndarray]) -> dict:
    """The number of clips and the mean PSNR of each codec at each compression, by kind."""
    kinds = {"videos": [clip for clip in clips if len(clip) > 1], "stills": [clip for clip in clips if len(clip) == 1]}
    found = {}
    for kind, members in kinds.items():
        rows = {}
        for stride, channels in POINTS if members else ():
            each = [of_clip(clip, stride, channels) for clip in members]
            means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
            rows[f"{'x'.join(map(str, stride))}, {channels} channels"] = means
        found[kind] = {"clips": len(members), "psnr_db": rows}
    return found


def table(found: dict) -> str:
    """The measurement for a person, in Markdown."""
    lines = []
    for kind, told in found.items():
        names = list(next(iter(told["psnr_db"].values()), {}))
        lines += [f"PSNR in dB of {told['clips']} {kind}:", "", f"| compression | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
        lines += [f"| {point} | {' | '.join(f'{row[name]:.2f}' for name in names)} |" for point, row in told["psnr_db"].items()]
        lines.append("")
    return "\n".join(lines[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="a folder of media files")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="videodit-bicubic-") as workdir:
        found = measure(real_clips(chosen.clips, Path(workdir) / "dataset"))
    print(json.dumps(found) if chosen.json else table(found))


if __name__ == "__main__":
    main()

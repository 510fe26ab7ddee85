"""The `sample` verb, and the samples that training draws at fixed seeds and prompts."""

import dataclasses
import json
import re
from typing import Any

from etils import epath
import numpy as np

from videodit.core.config import read_config
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media
from videodit.data.dataset import ClipDataset
from videodit.data.latents import CONTENTS, TOKENIZER
from videodit.data.worlds import prompts as worlds_prompts
from videodit.evaluation.pictures import contact_sheet
from videodit.generation.generate import Generator, Request
from videodit.models.text.tokenizer import Tokenizer
from videodit.training.checkpoints import restore_weights
from videodit.training.config import ExperimentConfig, dataset_path, latents_path, read_experiment, vae_path
from videodit.training.jobs import dit_model
from videodit.training.restore import load_vae


def load_generator(config: ExperimentConfig, workdir: epath.PathLike, params: Any = None) -> Generator:
    """The generator of a workdir, with its newest averaged weights or the `params` that are given.

    Raises UserError where the workdir holds no trained transformer, or latents of another VAE than the one at hand.
    """
    directory, vae = latents_path(config, workdir), load_vae(vae_path(config, workdir))
    if not (directory / CONTENTS).exists():
        raise UserError(f"{directory!s} holds no latents: run `videodit encode` first")
    contents = json.loads((directory / CONTENTS).read_text())
    if contents["vae_fingerprint"] != vae.fingerprint:
        raise UserError(
            f"{directory!s} was encoded by VAE {contents['vae_fingerprint'][:12]}, but {vae_path(config, workdir)!s} holds "
            f"VAE {vae.fingerprint[:12]}: run `videodit encode` into another latents.path, or bring back that VAE"
        )
    tokenizer = Tokenizer((directory / TOKENIZER).read_bytes())
    params = restore_weights(workdir)[0]["ema"] if params is None else params
    scanned = dataclasses.replace(config, dit=dataclasses.replace(config.dit, unroll=1))  # the same weights, quicker to compile
    return Generator(
        model=dit_model(scanned, contents["channels"], tokenizer.size),
        params=params,
        vae=vae,
        tokenizer=tokenizer,
        row_length=config.packing.length,
        rows=min(config.packing.rows, 8),
        max_text_tokens=config.packing.max_text_tokens,
    )


def held_out_prompts(config: ExperimentConfig, workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Prompts that training has not seen, each with "prompt" and, of the worlds, what it asks to be shown."""
    if config.data.source == "worlds":
        return worlds_prompts(config.data.worlds)
    dataset = ClipDataset(dataset_path(config, workdir), "held_out")
    captions = [dataset[i]["captions"] for i in range(len(dataset))]
    found = [{"prompt": each["descriptive"] or each["original"]} for each in captions if any(each.values())]
    return found or [{"prompt": ""}]


def requests_for(config: ExperimentConfig, asked: list[dict[str, Any]], count: int, seed: int) -> list[Request]:
    """`count` requests that take prompts, sizes and lengths in turn, with seeds from `seed` on."""
    sizes, lengths = config.sample.sizes, config.sample.frames
    return [
        Request(
            prompt=asked[i % len(asked)]["prompt"],
            frames=lengths[i % len(lengths)],
            height=sizes[i % len(sizes)][0],
            width=sizes[i % len(sizes)][1],
            seed=seed + i,
            negative=config.sample.negative,
        )
        for i in range(count)
    ]


def write_training_samples(config: ExperimentConfig, workdir: epath.PathLike, params: Any, to: epath.Path) -> None:
    """Writes `to/`: clips at the config's fixed seeds and prompts, `samples.json` that says what they are, and `grid.png`."""
    asked = [{"prompt": prompt} for prompt in config.sample.prompts] or held_out_prompts(config, workdir)
    requests = requests_for(config, asked, config.sample.count, config.sample.seed)
    clips = load_generator(config, workdir, params)(requests, config.sample)
    listed = []
    for number, (request, clip) in enumerate(zip(requests, clips)):
        path = media.write(to / f"{number:03d}", clip, config.sample.fps)
        listed.append(
            {
                "prompt": request.prompt,
                "seed": request.seed,
                "file": path.name,
                "size": [request.height, request.width],
                "frames": request.frames,
                "fps": config.sample.fps,
            }
        )
    write_atomically(to / "grid.png", contact_sheet(clips))
    write_atomically(to / "samples.json", json.dumps(listed, indent=2) + "\n")


def sample_command(
    *,
    workdir: str,
    prompt: str,
    size: tuple[int, int],
    seconds: float,
    seed: int = 0,
    count: int = 1,
    steps: int | None = None,
    guidance: float | None = None,
    output: str | None = None,
) -> list[epath.Path]:
    """Draws `count` clips of `prompt` at `size` (height, width) and `seconds`, writes them, prints where, and returns the paths.

    0 seconds, or less than a frame's time, is an image and becomes a png; everything else an mp4.
    """
    config = read_experiment(read_config(workdir))
    settings = config.sample
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    if guidance is not None:
        settings = dataclasses.replace(settings, guidance=dataclasses.replace(settings.guidance, scale=guidance))
    frames = max(1, round(seconds * settings.fps))
    asked = Request(prompt=prompt, negative=settings.negative, frames=frames, height=size[0], width=size[1])
    requests = [dataclasses.replace(asked, seed=seed + i) for i in range(count)]
    folder = epath.Path(output) if output else epath.Path(workdir) / "outputs"
    folder.mkdir(parents=True, exist_ok=True)
    clips = load_generator(config, workdir)(requests, settings)
    name = re.sub(r"[^0-9a-z]+", "-", prompt.lower()).strip("-")[:60] or "sample"
    paths = []
    for request, clip in zip(requests, clips):
        paths.append(media.write(folder / f"{name}-{size[1]}x{size[0]}-{request.seed}", np.asarray(clip), settings.fps))
        print(paths[-1])
    return paths

"""The `sample` verb, and the samples that training draws at fixed seeds and prompts."""

import dataclasses
import json
import re
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.config import read, read_config
from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media
from videodit.data.dataset import ClipDataset
from videodit.data.latents import CONTENTS
from videodit.data.sizes import SizePolicy
from videodit.data.worlds import prompts as worlds_prompts
from videodit.diffusion.solvers import SOLVERS, SolverName
from videodit.evaluation.pictures import contact_sheet
from videodit.generation.generate import Generator, Request
from videodit.models.text.source import RememberedText, TextSource, check_identity, open_text
from videodit.sharding.mesh import MeshConfig, make_mesh
from videodit.sharding.rules import tree_shardings
from videodit.training.checkpoints import restore_weights
from videodit.training.config import ExperimentConfig, dataset_path, latents_path, read_experiment, vae_path
from videodit.training.jobs import dit_model
from videodit.training.restore import load_vae


def load_generator(
    config: ExperimentConfig,
    workdir: epath.PathLike,
    params: Any = None,
    text: TextSource | RememberedText | None = None,
    mesh: MeshConfig | None = None,
) -> Generator:
    """The generator of a workdir, with its newest averaged weights and the config's text, or the `params` and `text` that are given.
    Its transformer is laid out over all devices by `mesh`, else on one.

    Raises UserError where the workdir holds no trained transformer, or latents of another VAE or text than those at hand.
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
    check_identity(contents["text"], config.text, directory)
    source = open_text(config.text, directory, config.packing.max_text_tokens)
    params = restore_weights(workdir)[0]["ema"] if params is None else params
    scanned = dataclasses.replace(config, dit=dataclasses.replace(config.dit, unroll=1))  # the same weights, quicker to compile
    model = dit_model(scanned, contents["channels"], source.embedder)
    devices = None if mesh is None else make_mesh(mesh)
    if devices is not None:
        params = jax.device_put(params, tree_shardings(params, model.axes, devices))
    return Generator(
        model=model,
        params=params,
        mesh=devices,
        vae=vae,
        text=text or source,
        row_length=config.packing.length,
        rows=min(config.packing.rows, 8),
        policy=read(SizePolicy, contents["policy"]),
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


def write_training_samples(
    config: ExperimentConfig, workdir: epath.PathLike, params: Any, to: epath.Path, text: RememberedText | None = None
) -> None:
    """Writes `to/`: clips at the config's fixed seeds and prompts, `samples.json` that says what they are, and `grid.png`."""
    asked = [{"prompt": prompt} for prompt in config.sample.prompts] or held_out_prompts(config, workdir)
    requests = requests_for(config, asked, config.sample.count, config.sample.seed)
    clips = load_generator(config, workdir, params, text)(requests, config.sample)
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
    solver: SolverName | None = None,
    negative: str | None = None,
    fps: float | None = None,
    output: str | None = None,
) -> list[epath.Path]:
    """Draws `count` clips of `prompt` at `size` (height, width) and `seconds`, writes them, prints where, and returns the paths.

    0 seconds, or less than a frame's time, is an image and becomes a png; everything else an mp4.
    """
    config = read_experiment(read_config(workdir))
    if solver is not None and solver not in SOLVERS:
        raise UserError(f"--solver is {solver!r}, expected one of {', '.join(SOLVERS)}")
    chosen = {"steps": steps, "solver": solver, "negative": negative, "fps": fps}
    settings = dataclasses.replace(config.sample, **{name: value for name, value in chosen.items() if value is not None})
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

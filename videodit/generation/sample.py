"""The `sample` verb, and the samples that training draws at fixed seeds and prompts."""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import math
import sys
from typing import Any

from etils import epath
import jax

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
from videodit.generation.generator import Generator, Request
from videodit.generation.outputs import name_of, read_prompts, write_clips
from videodit.generation.perform import trained_of
from videodit.generation.plans import size_for
from videodit.generation.tasks import Task
from videodit.models.text.source import RememberedText, TextSource, check_identity, open_text
from videodit.sharding.mesh import MeshConfig, make_mesh
from videodit.sharding.rules import tree_shardings
from videodit.training.checkpoint_contents import read_checksums
from videodit.training.checkpoints import restore_weights
from videodit.training.config import ExperimentConfig, SampleConfig, dataset_path, latents_path, read_experiment, vae_path
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
    identity: dict[str, Any] = {"vae": vae.fingerprint, "text": contents["text"]}
    if params is None:
        weights, step = restore_weights(workdir)
        params, sums = weights["ema"], read_checksums(epath.Path(workdir) / "checkpoints" / str(step)) or {}
        average = json.dumps({name: value for name, value in sums.items() if name.startswith("ema/")}, sort_keys=True)
        identity |= {"workdir": str(workdir), "step": step, "weights": hashlib.sha256(average.encode()).hexdigest()}
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
        settings=config.sample,
        identity=identity,
    )


def load(workdir: epath.PathLike) -> Generator:
    """The generator of a workdir, with the settings of its config."""
    return load_generator(read_experiment(read_config(workdir)), workdir)


def held_out_prompts(config: ExperimentConfig, workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Prompts that training has not seen, each with "prompt" and, of the worlds, what it asks to be shown, else the "record" of the
    held-out split that it is the caption of."""
    if config.data.source == "worlds":
        return worlds_prompts(config.data.worlds)
    dataset = ClipDataset(dataset_path(config, workdir), "held_out")
    captions = [dataset[i]["captions"] for i in range(len(dataset))]
    found = [{"prompt": each["descriptive"] or each["original"], "record": i} for i, each in enumerate(captions) if any(each.values())]
    return found or [{"prompt": ""}]


def requests_for(config: ExperimentConfig, asked: list[dict[str, Any]], count: int, seed: int) -> list[Request]:
    """`count` requests that take prompts in turn, with seeds from `seed` on. Every size meets every length equally often, and a prompt that
    comes again meets the next size and the next length."""
    sizes, lengths = config.sample.sizes, config.sample.frames
    period = math.lcm(len(sizes), len(lengths))
    pairs = [(sizes[k % len(sizes)], lengths[(k + k // period) % len(lengths)]) for k in range(len(sizes) * len(lengths))]
    chosen = [pairs[(i % len(asked) + i // len(asked)) % len(pairs)] for i in range(count)]
    return [
        Request(
            prompt=asked[i % len(asked)]["prompt"],
            frames=frames,
            height=height,
            width=width,
            seed=seed + i,
            negative=config.sample.negative,
        )
        for i, ((height, width), frames) in enumerate(chosen)
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


def chosen_settings(
    config: ExperimentConfig,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    solver: SolverName | None = None,
    negative: str | None = None,
    fps: float | None = None,
) -> SampleConfig:
    """The config's settings with those that are not None in their place."""
    if solver is not None and solver not in SOLVERS:
        raise UserError(f"--solver is {solver!r}, expected one of {', '.join(SOLVERS)}")
    chosen = {"steps": steps, "solver": solver, "negative": negative, "fps": fps}
    settings = dataclasses.replace(config.sample, **{name: value for name, value in chosen.items() if value is not None})
    if guidance is not None:
        settings = dataclasses.replace(settings, guidance=dataclasses.replace(settings.guidance, scale=guidance))
    return settings


def sample_command(
    *,
    workdir: str,
    task: Task,
    count: int = 1,
    prompts: str | None = None,
    output: str | None = None,
    preview: bool = False,
    mesh: MeshConfig | None = None,
    show: Callable[[str, int, int], None] | None = None,
    **settings: Any,
) -> list[epath.Path]:
    """Makes `count` clips of a task with seeds that count up, or one of each task of the file `prompts`; prints where, returns the paths.

    `settings` are those of `chosen_settings`. One frame becomes a png; everything else an mp4.
    """
    config = read_experiment(read_config(workdir))
    chosen = chosen_settings(config, **settings)
    if prompts is None:
        tasks = [dataclasses.replace(task, seed=task.seed + i) for i in range(count)]
    else:
        tasks = [dataclasses.replace(each, seed=each.seed + i) for each in read_prompts(prompts, task) for i in range(count)]
    folder = epath.Path(output) if output else epath.Path(workdir) / "outputs"
    generator = load_generator(config, workdir, mesh=mesh)
    trained = trained_of(generator, chosen)
    sizes = [size_for(each, trained) for each in tasks]
    names = [name_of(each, size) for each, size in zip(tasks, sizes)]
    if prompts is not None:  # equal prompts are outputs of their own
        names = [f"{number:05d}-{name}" for number, name in enumerate(names)]
    tell_range(generator, chosen.fps, sizes)
    paths = []
    for path in write_clips(generator, tasks, chosen, folder, names, preview=preview, show=show):
        paths.append(path)
        print(path, flush=True)
    return paths


def tell_range(generator: Generator, fps: float, sizes: list[tuple[int, int]]) -> None:
    """Says on stderr what is outside of what was trained on: larger (height, width), another rate. It is made all the same; longer clips
    are windows as long as those that were trained on."""
    policy = generator.policy
    most = policy.max_tokens * policy.grid[1] * policy.grid[2]
    beyond = sorted({size for size in sizes if size[0] * size[1] > most})
    if beyond:
        named = ", ".join(f"{width}x{height}" for height, width in beyond)
        print(f"sample: {named} has more than the {most:,} pixels a frame that were trained on; quality may be less", file=sys.stderr)
    if fps != policy.fps:
        print(f"sample: {fps:g} frames a second are not the {policy.fps:g} that were trained on; motion may be less true", file=sys.stderr)

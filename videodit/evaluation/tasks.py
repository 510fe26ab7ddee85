"""The `evaluate --tasks` verb: every generation task on the worlds, held against the true continuation of each scene.

Scenes are of held-out combinations and move. Beside the trained model stand one with random weights, a baseline that copies its input, and
the true render. Positions and speeds are read from pixels, of true renders too.
"""

from collections.abc import Callable
import dataclasses
from dataclasses import dataclass
import functools
import json
import subprocess
import sys
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media
from videodit.data.worlds import captions
from videodit.data.worlds.render import render
from videodit.data.worlds.sampling import sample_scene
from videodit.data.worlds.scene import COLOURS, STILL, Scene
from videodit.evaluation import judge as judging
from videodit.evaluation import motions
from videodit.evaluation.pictures import contact_sheet
from videodit.evaluation.quality import psnr_db
from videodit.generation.generator import Generator
from videodit.generation.perform import generate, trained_of
from videodit.generation.plans import cross_fade
from videodit.generation.sample import load_generator
from videodit.generation.tasks import Task
from videodit.training.config import ExperimentConfig

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LONG_SECONDS, SHORT_SECONDS, LONG_CLIPS = 60.0, 5.0, 8
UNTRAINED = 8  # clips of an untrained model are much alike
SUBJECTS = ("ours", "untrained", "copy", "true")
_CHILD = (
    "import resource, sys; from videodit import cli; status = cli.main(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A scene with what is true of it: `clip` uint8 `[T, H, W, 3]`, longer than a window, at `size`; `truth` as the judge reads it."""

    scene: Scene
    prompt: str
    size: tuple[int, int]
    clip: np.ndarray
    truth: dict[str, str]
    colour: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure of each of `SUBJECTS`, None where it has none, and whether it is what `aim` says."""

    task: str
    measure: str
    ours: float | None
    untrained: float | None = None
    copy: float | None = None
    true: float | None = None
    aim: str = ""
    reached: bool | None = None


def cases(config: ExperimentConfig, count: int, frames: int, moving: bool = True) -> list[Case]:
    """Scenes of held-out combinations in which the solid moves, or stays, at the config's sizes in turn, rendered for `frames` frames."""
    worlds, sizes, fps = dataclasses.replace(config.data.worlds, split="held_out"), config.sample.sizes, config.sample.fps
    found: list[Case] = []
    for index in range(1000 * count):
        scene = sample_scene(worlds, index)
        solid, told = scene.solids[0], captions.describe(scene, frames=17, fps=fps)
        if len(found) == count:
            break
        if (solid.motion.direction != STILL) != moving or any(each.prompt == told["original"] for each in found):
            continue
        size = sizes[len(found) % len(sizes)]
        truth = {"shape": solid.shape, "colour": solid.colour, "direction": solid.motion.direction}
        clip = render(scene, frames=frames, height=size[0], width=size[1], fps=fps)
        found.append(Case(scene=scene, prompt=told["original"], size=size, clip=clip, truth=truth, colour=solid.colour))
    return found


def evaluate_tasks(config: ExperimentConfig, workdir: epath.PathLike) -> dict[str, Any]:
    """Measures every task, prints a table, writes `evaluation/tasks.json`, a contact sheet a task and inputs to try them on.

    Raises UserError where the model was not trained on worlds.
    """
    if config.model != "dit" or config.data.source != "worlds":
        said = f"{config.model} of {config.data.source}"
        raise UserError(f"evaluate --tasks needs a transformer of the worlds, whose truth is known; this is {said}")
    workdir = epath.Path(workdir)
    ours = load_generator(config, workdir)
    start = jax.jit(ours.model.init)(jax.random.key(config.train.seed))
    untrained = load_generator(config, workdir, start, ours.text)
    trained = trained_of(ours, config.sample)
    study = Study(config=config, generators={"ours": ours, "untrained": untrained}, time=trained.time, window=trained.window)
    folder = workdir / "evaluation" / "tasks"
    study.write_inputs(folder / "inputs")
    rows = []
    for name, measure in MEASURES.items():
        found, sheet = measure(study)
        rows += found
        if sheet:
            write_atomically(folder / f"{name}.png", contact_sheet(sheet[:6], columns=1, frames=9))
        print(f"tasks: {name}", file=sys.stderr, flush=True)
    rows += long_memory(workdir, config)
    result = {"rows": [dataclasses.asdict(row) for row in rows], "identity_curve": study.curve, "edit_curve": study.edits}
    write_atomically(workdir / "evaluation" / "tasks.json", json.dumps(result, indent=2) + "\n")
    print(to_text(rows))
    return result


@dataclass(kw_only=True, eq=False)
class Study:
    """Generators, and scenes to try tasks on."""

    config: ExperimentConfig
    generators: dict[str, Generator]
    time: int
    window: int
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    edits: list[dict[str, float]] = dataclasses.field(default_factory=list)

    @property
    def fps(self) -> float:
        return self.config.sample.fps

    @functools.cached_property
    def cases(self) -> list[Case]:
        return cases(self.config, self.config.evaluate.tasks, self.window + self.time + 1)

    def video(self, frames: np.ndarray) -> bytes:
        """A file of frames, to the bit."""
        return media.encode_video(frames, self.fps, lossless=True)

    def made(self, task: Callable[[Case], Task]) -> dict[str, list[np.ndarray]]:
        """What both models make of a task of each case, of its size and with its own seed; the untrained one of the first few."""
        tasks = [dataclasses.replace(task(case), size=case.size, seed=number) for number, case in enumerate(self.cases)]
        few = {"untrained": tasks[:UNTRAINED]}
        return {
            name: generate(generator, *few.get(name, tasks), settings=self.config.sample) for name, generator in self.generators.items()
        }

    def rebuilt(self, clip: np.ndarray) -> np.ndarray:
        """A clip through the VAE."""
        return self.generators["ours"].vae.decode(self.generators["ours"].vae.encode(clip[None]))[0]

    def write_inputs(self, folder: epath.Path) -> None:
        """Some scenes as files."""
        for number, case in enumerate(self.cases[:4]):
            media.write(folder / f"still-{number}", case.clip[:1], self.fps)
            media.write(folder / f"clip-{number}", case.clip[: self.window], self.fps)


def _mean(values) -> float:
    return float(np.nanmean(list(values)))


def _rows(task: str, measure: str, values: dict[str, list[float]], aim: str, reached: Callable[[dict[str, float]], bool]) -> Row:
    means = {name: _mean(each) for name, each in values.items()}
    return Row(task=task, measure=measure, aim=aim, reached=bool(reached(means)), **means)


def image(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """From a scene's first frame and its prompt."""
    made = study.made(lambda case: Task(task="image", prompt=case.prompt, inputs=(media.encode_image(case.clip[0]),)))
    made |= {"copy": [case.clip[:1].repeat(study.window, axis=0) for case in study.cases]}
    made |= {"true": [case.clip[: study.window] for case in study.cases]}
    kept = {name: [psnr_db(clip[:1], case.clip[:1]) for clip, case in zip(each, study.cases)] for name, each in made.items()}
    limit = _mean(psnr_db(study.rebuilt(case.clip[:1]), case.clip[:1]) for case in study.cases) - 1
    right = {name: judging.compared([(c, study.fps, case.truth) for c, case in zip(each, study.cases)]) for name, each in made.items()}
    moves = {name: [float(a == b) for a, b in pairs["motion"]] for name, pairs in right.items()}
    rows = [
        _rows("image", "given frame, dB", kept, f"{limit:.1f} or more (the VAE's, less 1)", lambda means: means["ours"] >= limit),
        _rows("image", "moves as asked", moves, "more than copying", lambda means: means["ours"] > means["copy"]),
    ]
    return rows, made["ours"][:4]


def _extended(study: Study, backward: bool) -> tuple[list[Row], list[np.ndarray]]:
    new, direction = study.time, "backward" if backward else "forward"
    given = slice(new, study.window) if backward else slice(0, study.window - new)
    made = study.made(
        lambda case: Task(
            task="extend", direction=direction, prompt=case.prompt, inputs=(study.video(case.clip[given]),), seconds=new / study.fps
        )
    )
    edge = -1 if not backward else 0
    made |= {
        "copy": [
            np.concatenate([case.clip[given], case.clip[given][edge][None].repeat(new, axis=0)][:: -1 if backward else 1])
            for case in study.cases
        ],
        "true": [case.clip[: study.window] for case in study.cases],
    }
    part = slice(0, new) if backward else slice(study.window - new, study.window)
    paths = {name: [motions.path_of(c, case.colour)[part] for c, case in zip(each, study.cases)] for name, each in made.items()}
    rows = []
    for measure, error in (
        ("position error, of the shorter side", motions.position_error),
        ("speed error, shorter sides a second", lambda path, true: motions.speed_error(path, true, study.fps)),
        ("direction error, degrees", lambda path, true: motions.direction_error(path, true, study.fps)),
    ):
        values = {name: [error(path, true) for path, true in zip(each, paths["true"])] for name, each in paths.items()}
        rows.append(_rows(f"extend {direction}", measure, values, "less than freezing", lambda means: means["ours"] < means["copy"]))
    return rows, made["ours"][:4]


def fill(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """The middle of a clip, of as many frames as a latent has, against a cross-fade."""
    first = study.window - 2 * study.time
    gap = slice(first, first + study.time)
    made = study.made(
        lambda case: Task(
            task="fill",
            prompt=case.prompt,
            inputs=(study.video(case.clip[: study.window]),),
            missing=((gap.start / study.fps, gap.stop / study.fps),),
        )
    )
    true = [case.clip[: study.window] for case in study.cases]
    faded = [cross_fade(clip[gap.start - 1], clip[gap.stop], study.time) for clip in true]
    made |= {"copy": [np.concatenate([c[: gap.start], f, c[gap.stop :]]) for c, f in zip(true, faded)], "true": true}
    close = {name: [psnr_db(c[gap], t[gap]) for c, t in zip(each, true)] for name, each in made.items()}
    paths = {name: [motions.path_of(c, case.colour)[gap] for c, case in zip(each, study.cases)] for name, each in made.items()}
    errors = {name: [motions.position_error(p, t) for p, t in zip(each, paths["true"])] for name, each in paths.items()}
    rows = [
        _rows("fill", "missing frames, dB", close, "more than a cross-fade", lambda means: means["ours"] > means["copy"]),
        _rows("fill", "position error, of the shorter side", errors, "less than a cross-fade", lambda m: m["ours"] < m["copy"]),
    ]
    return rows, made["ours"][:4]


def loop(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """Of a prompt, and of a video that is given; copying is the clip played over and over."""
    given = study.window - study.time
    repeated = lambda frames: [motions.seam(case.clip[:frames]) for case in study.cases]
    rows, sheet = [], []
    for name, task, frames in (
        ("loop from text", lambda case: Task(task="loop", prompt=case.prompt), study.window),
        ("loop of a video", lambda case: Task(task="loop", prompt=case.prompt, inputs=(study.video(case.clip[:given]),)), given),
    ):
        made = study.made(task)
        values = {subject: [motions.seam(clip) for clip in each] for subject, each in made.items()} | {"copy": repeated(frames)}
        rows.append(_rows(name, "step at the seam, in median steps", values, "1 or less", lambda means: means["ours"] <= 1))
        sheet += made["ours"][:2]
    return rows, sheet


def connect(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """A scene's beginning with what comes a second later."""
    given, gap = study.window - study.time, study.time
    second = slice(given + gap, None)
    made = study.made(
        lambda case: Task(
            task="connect",
            prompt=case.prompt,
            inputs=(study.video(case.clip[:given]), study.video(case.clip[second])),
            seconds=gap / study.fps,
        )
    )
    made |= {"copy": [np.concatenate([case.clip[:given], case.clip[second]]) for case in study.cases]}
    made |= {"true": [case.clip for case in study.cases]}
    usual = float(np.percentile(np.concatenate([motions.steps(case.clip) for case in study.cases]), 95))

    def jump(name: str, clip: np.ndarray) -> float:  # from the last frame of the one to the first of the other
        return float(motions.steps(clip)[given - 1 : given if name == "copy" else given + gap].max())

    jumps = {name: [jump(name, clip) for clip in each] for name, each in made.items()}
    ends = {
        name: [psnr_db(np.concatenate([c[:given], c[second]]), np.concatenate([case.clip[:given], case.clip[second]]))
               for c, case in zip(made[name], study.cases)]
        for name in ("ours", "untrained")
    }  # fmt: skip
    limit = _mean(psnr_db(study.rebuilt(case.clip[:given]), case.clip[:given]) for case in study.cases) - 1
    above = sum(value > usual for value in jumps["ours"])
    rows = [
        _rows("connect", "largest step, grey levels", jumps, f"{usual:.1f} or less (95 % of true steps), each", lambda means: above == 0),
        _rows("connect", "given frames, dB", ends, f"{limit:.1f} or more (the VAE's, less 1)", lambda means: means["ours"] >= limit),
    ]
    return rows, made["ours"][:4]


def edit(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """A clip whose solid is to have another colour, at rising strengths."""
    other = lambda colour: list(COLOURS)[(list(COLOURS).index(colour) + len(COLOURS) // 2) % len(COLOURS)]
    recoloured = lambda case: case.prompt.replace(f"an {case.colour}", f"a {case.colour}").replace(case.colour, other(case.colour))
    likeness, agreement, sheet = {}, {}, []
    for strength in STRENGTHS:
        made = study.made(
            lambda case: Task(
                task="edit",
                prompt=recoloured(case),
                inputs=(study.video(case.clip[: study.window]),),
                strength=strength,  # noqa: B023
            )
        )
        pairs = {name: list(zip(each, study.cases)) for name, each in made.items()}
        likeness[strength] = {name: _mean(psnr_db(c, case.clip[: study.window]) for c, case in each) for name, each in pairs.items()}
        agreement[strength] = {
            name: _mean(motions.share_of_colour(c, other(case.colour), case.colour) for c, case in each) for name, each in pairs.items()
        }
        sheet.append(made["ours"][0])
    study.edits = [{"strength": s, "like_input_db": likeness[s]["ours"], "as_prompted": agreement[s]["ours"]} for s in STRENGTHS]
    falls = all(likeness[a]["ours"] > likeness[b]["ours"] for a, b in zip(STRENGTHS, STRENGTHS[1:]))
    rises = all(agreement[a]["ours"] <= agreement[b]["ours"] for a, b in zip(STRENGTHS, STRENGTHS[1:]))
    rows = []
    for strength in STRENGTHS:
        last = strength == STRENGTHS[-1]
        rows.append(
            Row(task="edit", measure=f"strength {strength}: like the input, dB", ours=likeness[strength]["ours"],
                untrained=likeness[strength]["untrained"], aim="falls" if last else "", reached=falls if last else None)
        )  # fmt: skip
    for strength in STRENGTHS:
        last = strength == STRENGTHS[-1]
        rows.append(
            Row(task="edit", measure=f"strength {strength}: of the new colour", ours=agreement[strength]["ours"],
                untrained=agreement[strength]["untrained"], copy=0.0, aim="rises" if last else "", reached=rises if last else None)
        )  # fmt: skip
    return rows, sheet


def long(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """A minute of each of some solids that stay in the picture: what the judge sees of them as time goes on."""
    scenes, ours = cases(study.config, LONG_CLIPS, study.window, moving=False), study.generators["ours"]
    chosen = [scenes[n % len(scenes)] for n in range(LONG_CLIPS)]  # combinations are few: again with other seeds
    tasks = [Task(prompt=c.prompt, size=c.size, seconds=LONG_SECONDS, seed=n) for n, c in enumerate(chosen)]
    clips = generate(ours, *tasks, settings=study.config.sample)
    piece = int(5 * study.fps)
    for start in range(0, len(clips[0]), piece):
        part = [(clip[start : start + study.window], study.fps, case.truth) for clip, case in zip(clips, chosen)]
        shares = judging.shares(judging.compared(part))
        study.curve.append({"seconds": start / study.fps, "colour": shares["colour"], "shape": shares["shape"]})
    rows = [
        Row(task="60 seconds", measure=f"{name} right in the last window", ours=study.curve[-1][name],
            true=1.0, aim="as in the first", reached=study.curve[-1][name] >= study.curve[0][name])
        for name in ("colour", "shape")
    ]  # fmt: skip
    return rows, [clip[:: max(1, len(clip) // study.window)] for clip in clips]


def composition(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """The same seed at a small size and at a larger one: how alike both are, seen coarsely, beside another seed's."""
    ours, (height, width) = study.generators["ours"], study.config.sample.sizes[-1]
    unit = max(1, min(height, width) // 4)
    make = lambda times, seed: generate(
        ours,
        *(
            Task(prompt=case.prompt, size=(times * unit, times * unit), seed=seed + n, seconds=study.window / study.fps)
            for n, case in enumerate(study.cases)
        ),
        settings=study.config.sample,
    )
    coarse = lambda clip: np.rint(clip.reshape(len(clip), unit, clip.shape[1] // unit, unit, -1, 3).mean(axis=(2, 4))).astype(np.uint8)
    wanted = make(4, 0)
    alike = lambda clips: _mean(psnr_db(coarse(a), coarse(b)) for a, b in zip(clips, wanted))
    same, other = alike(make(3, 0)), alike(make(3, 10_000))
    row = Row(task="preview", measure=f"{3 * unit}x{3 * unit} for {4 * unit}x{4 * unit}: as it at {unit}x{unit}, dB", ours=same, copy=other,
              aim="more than another seed's (copy)", reached=same > other)  # fmt: skip
    return [row], []


def packed(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """Clips of mixed sizes and lengths a second, together and one at a time, in turn, once both are compiled."""
    ours, sizes, lengths = study.generators["ours"], study.config.sample.sizes, (1, study.window, 1 + study.time, 1)
    tasks = [
        Task(prompt=case.prompt, size=sizes[n % len(sizes)], seconds=lengths[n % len(lengths)] / study.fps, seed=n)
        for n, case in enumerate([*study.cases, *study.cases])
    ]
    together = lambda: generate(ours, *tasks, settings=study.config.sample)
    alone = lambda: [generate(ours, task, settings=study.config.sample) for task in tasks]
    spent: dict[str, list[float]] = {"together": [], "alone": []}
    together(), alone()
    for _ in range(3):
        for name, make in (("together", together), ("alone", alone)):
            begun = time.perf_counter()
            make()
            spent[name].append(time.perf_counter() - begun)
    ratio = float(np.median(np.divide(spent["alone"], spent["together"])))
    row = Row(task="packed", measure="clips a second, times those of one at a time", ours=ratio, copy=1.0, aim="1.5 or more",
              reached=ratio >= 1.5)  # fmt: skip
    return [row], []


def long_memory(workdir: epath.Path, config: ExperimentConfig) -> list[Row]:
    """The most memory of a process that makes a minute, beside one that makes five seconds."""
    height, width = config.sample.sizes[0]
    most = {}
    for seconds in (SHORT_SECONDS, LONG_SECONDS):
        arguments = ["sample", f"--workdir={workdir}", "--prompt=a red ball rolls left", f"--seconds={seconds}", f"--size={width}x{height}"]
        arguments += ["--seed=1000", f"--output={workdir / 'evaluation' / 'tasks' / f'{seconds:g}s'}"]
        done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        most[seconds] = int(done.stdout.split()[-1]) / 2**20  # of KiB
    ratio = most[LONG_SECONDS] / most[SHORT_SECONDS]
    measure = f"peak memory, times that of 5 seconds ({most[SHORT_SECONDS]:.2f} GiB)"
    return [Row(task="60 seconds", measure=measure, ours=ratio, aim="1.1 or less", reached=ratio <= 1.1)]


MEASURES: dict[str, Callable[[Study], tuple[list[Row], list[np.ndarray]]]] = {
    "image": image,
    "extend-forward": lambda study: _extended(study, False),
    "extend-backward": lambda study: _extended(study, True),
    "fill": fill,
    "loop": loop,
    "connect": connect,
    "edit": edit,
    "long": long,
    "preview": composition,
    "packed": packed,
}


def to_text(rows: list[Row]) -> str:
    """The table in Markdown, readable as it is."""
    number = lambda value: "" if value is None or value != value else f"{value:.3f}" if 5e-4 < abs(value) < 0.2 else f"{value:.2f}"
    lines = ["| task | measure | ours | untrained | copy | true | aim | reached |", "|" + " --- |" * 8]
    for row in rows:
        reached = "" if row.reached is None else "yes" if row.reached else "**no**"
        cells = [row.task, row.measure, *(number(getattr(row, name)) for name in SUBJECTS), row.aim, reached]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

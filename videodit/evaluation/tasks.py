"""The `evaluate --tasks` verb: every generation task on the worlds, held against the true continuation of each scene.

Scenes are of held-out combinations and move. Beside the trained model stand one with random weights, a baseline that copies its input, and
the true render. Positions and speeds are read from pixels, of true renders too. An aim that random weights or a frozen clip meet is none:
ours must be better than both by more than chance.
"""

from collections.abc import Callable
import dataclasses
import json
import sys
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data import media
from videodit.data.worlds.scene import COLOURS
from videodit.evaluation import judge as judging
from videodit.evaluation import motions
from videodit.evaluation.pictures import contact_sheet
from videodit.evaluation.quality import psnr_db
from videodit.evaluation.task_long import long, long_memory
from videodit.evaluation.task_rows import Row, above, below, row, to_text
from videodit.evaluation.task_study import Case, Study, cases, mean
from videodit.generation.perform import generate, trained_of
from videodit.generation.plans import cross_fade
from videodit.generation.sample import load_generator
from videodit.generation.tasks import Task
from videodit.training.config import ExperimentConfig

__all__ = ["MEASURES", "cases", "evaluate_tasks"]

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


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
    result = {"rows": [dataclasses.asdict(each) for each in rows], "identity_curve": study.curve, "edit_curve": study.edits}
    write_atomically(workdir / "evaluation" / "tasks.json", json.dumps(result, indent=2) + "\n")
    print(to_text(rows))
    return result


def shows(clip: np.ndarray, fps: float, truth: dict[str, str], *facts: str) -> bool:
    """Whether the judge finds these facts of a clip right (see `judge.right`), by default all of them."""
    found = judging.right(judging.judge(clip, fps), truth, len(clip))
    return all(found.get(fact, False) for fact in facts or ("whole",))


def keeps(clip: np.ndarray, given: np.ndarray, study: Study) -> bool:
    """Whether given frames are kept as well as the VAE keeps them, less 1 dB."""
    return psnr_db(clip, given) >= psnr_db(study.rebuilt(given), given) - 1


ABOVE, BELOW = "above untrained and copy, intervals apart", "below untrained and copy, intervals apart"
_above = lambda found: above(found, "untrained", "copy")
_below = lambda found: below(found, "untrained", "copy")


def image(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """From a scene's first frame and its prompt."""
    made = study.made(lambda case: Task(task="image", prompt=case.prompt, inputs=(media.encode_image(case.clip[0]),)))
    made |= {"copy": [case.clip[:1].repeat(study.window, axis=0) for case in study.cases]}
    made |= {"true": [case.clip[: study.window] for case in study.cases]}
    kept = {name: [psnr_db(clip[:1], case.clip[:1]) for clip, case in zip(each, study.cases)] for name, each in made.items()}
    good = lambda clip, case: float(keeps(clip[:1], case.clip[:1], study) and shows(clip, study.fps, case.truth))
    right = {name: [good(clip, case) for clip, case in zip(each, study.cases)] for name, each in made.items()}
    moves = {name: [float(shows(c, study.fps, case.truth, "motion")) for c, case in zip(each, study.cases)] for name, each in made.items()}
    rows = [
        row("image", "given frame, dB", kept),
        row("image", "frame kept, whole clip right", right, ABOVE, _above),
        row("image", "moves as asked", moves, ABOVE, _above),
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
    right = {name: [float(shows(clip, study.fps, case.truth)) for clip, case in zip(each, study.cases)] for name, each in made.items()}
    rows = [row(f"extend {direction}", "whole clip right", right, ABOVE, _above)]
    for measure, error in (
        ("position error, of the shorter side", motions.position_error),
        ("speed error, shorter sides a second", lambda path, true: motions.speed_error(path, true, study.fps)),
        ("direction error, degrees", lambda path, true: motions.direction_error(path, true, study.fps)),
    ):
        values = {name: [error(path, true) for path, true in zip(each, paths["true"])] for name, each in paths.items()}
        rows.append(row(f"extend {direction}", measure, values, BELOW, _below))
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
    half = "at most half of a cross-fade's and of untrained's, intervals apart"
    rows = [
        row("fill", "missing frames, dB", close, ABOVE, _above),
        row("fill", "position error, of the shorter side", errors, half, lambda found: below(found, "untrained", "copy", share=0.5)),
    ]
    return rows, made["ours"][:4]


def closes(clip: np.ndarray, first: int, fps: float, truth: dict[str, str]) -> bool:
    """Whether a clip is a loop of what is asked: it moves as asked for its `first` frames, goes over into its beginning with the right
    solid alone in the picture, and its seam is no larger a step than others. A clip that stands still is none."""
    moves = shows(clip[:first], fps, truth, "colour", "shape", "motion", "alone")
    return moves and motions.seam(clip) <= 1 and shows(clip[first:], fps, truth, "colour", "shape", "alone")


def loop(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """Of a prompt, and of a video that is given; copying is the clip played over and over."""
    given = study.window - study.time
    rows, sheet = [], []
    for name, task in (
        ("loop from text", lambda case: Task(task="loop", prompt=case.prompt)),
        ("loop of a video", lambda case: Task(task="loop", prompt=case.prompt, inputs=(study.video(case.clip[:given]),))),
    ):
        made = study.made(task) | {"copy": [case.clip[: study.window] for case in study.cases]}
        seams = {subject: [motions.seam(clip) for clip in each] for subject, each in made.items()}
        good = lambda clip, case: float(closes(clip, given, study.fps, case.truth))
        closed = {subject: [good(clip, case) for clip, case in zip(each, study.cases)] for subject, each in made.items()}
        rows.append(row(name, "step at the seam, in median steps", seams))
        rows.append(row(name, "moves as asked, seam of 1 or less, solid kept", closed, ABOVE, _above))
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
    held = lambda clip: np.concatenate([clip[:given], clip[given - 1 : given].repeat(gap, axis=0), clip[second]])
    made |= {"copy": [held(case.clip) for case in study.cases], "true": [case.clip for case in study.cases]}
    between = slice(given, given + gap)
    jumps = {name: [float(motions.steps(clip)[given - 1 : given + gap].max()) for clip in each] for name, each in made.items()}
    usual = float(np.percentile(jumps["true"], 95))
    paths = {name: [motions.path_of(c, case.colour)[between] for c, case in zip(each, study.cases)] for name, each in made.items()}
    errors = {name: [motions.position_error(p, t) for p, t in zip(each, paths["true"])] for name, each in paths.items()}

    def joins(clip: np.ndarray, jump: float, case: Case) -> bool:
        kept = keeps(clip[:given], case.clip[:given], study) and keeps(clip[second], case.clip[second], study)
        return kept and jump <= usual and shows(clip[between], study.fps, case.truth, "colour", "shape", "alone")

    joined = {name: [float(joins(*each)) for each in zip(made[name], jumps[name], study.cases)] for name in made}
    rows = [
        row("connect", "largest step, grey levels", jumps),
        row("connect", f"ends kept, no step above {usual:.1f} (95 % of true clips), solid kept", joined, ABOVE, _above),
        row("connect", "position error, of the shorter side", errors, BELOW, _below),
    ]
    return rows, made["ours"][:4]


def edit(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """A clip whose solid is to have another colour, at rising strengths."""
    other = lambda colour: list(COLOURS)[(list(COLOURS).index(colour) + len(COLOURS) // 2) % len(COLOURS)]
    recoloured = lambda case: case.prompt.replace(f"an {case.colour}", f"a {case.colour}").replace(case.colour, other(case.colour))
    likeness, agreement, sheet = {}, {}, []
    given = [case.clip[: study.window] for case in study.cases]
    for strength in STRENGTHS:
        made = study.made(
            lambda case: Task(
                task="edit",
                prompt=recoloured(case),
                inputs=(study.video(case.clip[: study.window]),),
                strength=strength,  # noqa: B023
            )
        )
        made["copy"] = given
        likeness[strength] = {name: [psnr_db(clip, g) for clip, g in zip(each, given)] for name, each in made.items()}
        agreement[strength] = {
            name: [motions.share_of_colour(clip, other(case.colour), case.colour) for clip, case in zip(each, study.cases)]
            for name, each in made.items()
        }
        sheet.append(made["ours"][0])
    like, as_prompted = ([mean(each[s]["ours"]) for s in STRENGTHS] for each in (likeness, agreement))
    study.edits = [{"strength": s, "like_input_db": a, "as_prompted": b} for s, a, b in zip(STRENGTHS, like, as_prompted)]
    first, last = STRENGTHS[0], STRENGTHS[-1]
    keeps_most = lambda found: above(found, "untrained") and all(a > b for a, b in zip(like, like[1:]))
    turns = lambda found: above(found, "untrained", "copy") and all(a <= b for a, b in zip(as_prompted, as_prompted[1:]))
    rows = [
        row("edit", f"strength {s}: like the input, dB", likeness[s],
            *(("falls with strength, above untrained, intervals apart", keeps_most) if s == first else ()))
        for s in STRENGTHS
    ]  # fmt: skip
    rows += [
        row("edit", f"strength {s}: of the new colour", agreement[s],
            *((f"rises with strength, {ABOVE}", turns) if s == last else ()))
        for s in STRENGTHS
    ]  # fmt: skip
    return rows, sheet


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
    alike = lambda clips: [psnr_db(coarse(a), coarse(b)) for a, b in zip(clips, wanted)]
    same, other = alike(make(3, 0)), alike(make(3, 10_000))
    measure = f"{3 * unit}x{3 * unit} for {4 * unit}x{4 * unit}: as it at {unit}x{unit}, dB"
    aim = "more than another seed's (copy), intervals apart"
    return [row("preview", measure, {"ours": same, "copy": other}, aim, lambda found: above(found, "copy"))], []


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
    measure = "clips a second, times those of one at a time"
    return [Row(task="packed", measure=measure, ours=ratio, aim="1.5 or more", reached=ratio >= 1.5)], []


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


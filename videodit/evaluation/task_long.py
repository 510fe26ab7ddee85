"""A minute of each of some solids: what is left of them, and what memory it takes."""

from dataclasses import dataclass
import subprocess
import sys

from etils import epath
import numpy as np

from videodit.data.worlds.render import render
from videodit.evaluation import judge as judging
from videodit.evaluation import motions
from videodit.evaluation.task_rows import Row, row
from videodit.evaluation.task_study import Case, Study, cases, mean
from videodit.generation.perform import generate
from videodit.generation.tasks import Task
from videodit.training.config import ExperimentConfig

LONG_SECONDS, SHORT_SECONDS, EVERY = 60.0, 5.0, 5.0
LONG_CLIPS, LONG_UNTRAINED = 8, 2
LEAST_AT_FIRST, BRIGHTNESS, SIZE = 0.9, 0.05, 0.1  # share right in the first window; changes over the minute that count as none
_CHILD = (
    "import resource, sys; from videodit import cli; status = cli.main(sys.argv[1:]); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
)


def long(study: Study) -> tuple[list[Row], list[np.ndarray]]:
    """A minute of each of some solids that stay in the picture: what is left of them as time goes on. Copying holds the first frame."""
    scenes, settings, fps = cases(study.config, LONG_CLIPS, study.window, moving=False), study.config.sample, study.fps
    chosen = [scenes[n % len(scenes)] for n in range(LONG_CLIPS)]  # combinations are few: again with other seeds
    tasks = [Task(prompt=c.prompt, size=c.size, seconds=LONG_SECONDS, seed=n) for n, c in enumerate(chosen)]
    ours = generate(study.generators["ours"], *tasks, settings=settings)
    frames = len(ours[0])
    made = {"ours": ours, "untrained": generate(study.generators["untrained"], *tasks[:LONG_UNTRAINED], settings=settings)}
    made["copy"] = [clip[:1].repeat(frames, axis=0) for clip in ours]
    made["true"] = [render(case.scene, frames=frames, height=case.size[0], width=case.size[1], fps=fps) for case in chosen]
    seen = {name: [lasting(clip, case, study.window, fps) for clip, case in zip(each, chosen)] for name, each in made.items()}
    for k in range(len(seen["ours"][0].right)):
        shares = {fact: mean(each.right[k][fact] for each in seen["ours"]) for fact in ("colour", "shape")}
        study.curve.append({"seconds": k * EVERY, **shares})
    of = lambda value: {name: [float(value(each)) for each in found] for name, found in seen.items()}
    floor = lambda fact: study.curve[0][fact] >= LEAST_AT_FIRST and study.curve[-1][fact] >= study.curve[0][fact]
    rows = [
        row("60 seconds", f"{fact} right in the last window", of(lambda each: each.right[-1][fact]),  # noqa: B023
            f"as in the first, there {LEAST_AT_FIRST:.0%} or more", lambda found: floor(fact))  # noqa: B023
        for fact in ("colour", "shape")
    ]  # fmt: skip
    kept, dimmed = of(lambda each: each.kept), of(lambda each: abs(each.brightness - 1))
    all_kept = lambda found: min(kept["ours"]) == 1 > max(kept["untrained"])
    every = f"{len(ours)} of {len(ours)}, and more than untrained"
    rows += [
        row("60 seconds", "colour, shape and size kept throughout", kept, every, all_kept),
        row("60 seconds", "change of the solid's brightness, last window to first", dimmed, f"{BRIGHTNESS} or less, each",
            lambda found: np.isfinite(dimmed["ours"]).all() and max(dimmed["ours"]) <= BRIGHTNESS),
    ]  # fmt: skip
    return rows, [clip[:: max(1, len(clip) // study.window)] for clip in ours]


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """What became of a long clip: what was right in each window, and the last window's brightness and size of the solid, of the first's."""

    right: list[dict[str, bool]]
    brightness: float
    size: float

    @property
    def kept(self) -> bool:
        """Whether colour, shape and number are right in all windows and the size is the same."""
        return all(each["colour"] and each["shape"] and each["alone"] for each in self.right) and abs(self.size - 1) <= SIZE


def lasting(clip: np.ndarray, case: Case, window: int, fps: float) -> Lasting:
    """Looks at a window of a long clip every `EVERY` seconds. Brightness and size are NaN where the solid is not seen."""
    parts = [clip[start : start + window] for start in range(0, len(clip) - window + 1, int(EVERY * fps))]
    right = [judging.right(judging.judge(part, fps), case.truth, len(part)) for part in parts]
    (bright, large), (last_bright, last_large) = (
        motions.appearance(clip[part], case.colour) for part in (slice(0, window), slice(-window, None))
    )
    return Lasting(right=right, brightness=last_bright / bright, size=last_large / large)


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

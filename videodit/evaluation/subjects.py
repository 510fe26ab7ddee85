"""What the judge is shown: a trained model's samples beside everything that says what their score means.

True renders of the same prompts, as they are and through the VAE, say how much can be had; other prompts' truths, frozen clips, an
untrained model and clips made to fool the judge say what can be had for nothing.
"""

from collections.abc import Hashable, Sequence
import dataclasses
from typing import Any

from etils import epath
import jax
import numpy as np

from videodit.core.files import write_atomically
from videodit.evaluation import judge as judging
from videodit.evaluation.judge import Verdict, intervals
from videodit.evaluation.judge.fooling import ANY_PROMPT, FOOLS, Asked, scene_for
from videodit.evaluation.pictures import contact_sheet
from videodit.generation.generator import Request
from videodit.generation.sample import held_out_prompts, load_generator, requests_for
from videodit.training.config import ExperimentConfig
from videodit.training.restore import TrainedVAE

TRUE_SEED = 40_000_000  # of true renders and of the scenes behind clips made to fool: no training clip's
_THROUGH = 8  # clips of one shape that go through the VAE at once
LEAST_FRAMES = 5  # of clips made to fool and of frozen ones: shorter ones have no time to do what they do

Truth = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """A verdict on a clip of so many frames, with what was asked for."""

    verdict: Verdict
    frames: int
    truth: Truth

    @property
    def prompt(self) -> str:
        return self.truth["prompt"]


Subjects = dict[str, list[Judgement]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Judgements by subject, and the clips that they are of, uint8 `[T, H, W, 3]`.

    The i-th of the trained model's clips, of the true `renders`, of these `through_vae` and of the judgements of all three answer the i-th
    prompt, at one size and length.
    """

    judgements: Subjects
    clips: list[np.ndarray]
    renders: list[np.ndarray]
    through_vae: list[np.ndarray]


def judged_samples(config: ExperimentConfig, workdir: epath.Path) -> Samples:
    """`evaluate.prompts` samples of the trained model and all that stands beside them, judged.

    Writes `evaluation/samples.png`. An untrained model makes a clip a prompt, and so does whoever fools.
    """
    prompts = held_out_prompts(config, workdir)
    requests = requests_for(config, prompts, config.evaluate.prompts, config.evaluate.seed)
    truths = [prompts[i % len(prompts)] for i in range(len(requests))]
    asked = [asked_of(config, request, truth, TRUE_SEED + i) for i, (request, truth) in enumerate(zip(requests, truths))]
    generator, few = load_generator(config, workdir), min(len(requests), len(prompts))
    start = jax.jit(generator.model.init)(jax.random.key(config.train.seed))
    untrained = load_generator(config, workdir, start, generator.text)
    clips, renders = list(generator(requests, config.sample)), [each.render() for each in asked]
    through_vae = through(generator.vae, renders)
    write_atomically(workdir / "evaluation" / "samples.png", contact_sheet(clips[:16]))
    see = lambda shown: [_judged(clip, config.sample.fps, truth) for clip, truth in zip(shown, truths)]
    trained = see(clips)
    frozen = [(clip[:1].repeat(len(clip), axis=0), truth) for clip, truth in zip(clips, truths) if len(clip) >= LEAST_FRAMES]
    found = {
        "trained": trained,
        "truth": see(renders),
        "truth through the VAE": see(through_vae),
        "shuffled prompts": shuffled(trained, config.evaluate.seed),
        "frozen first frame": [_judged(clip, config.sample.fps, truth) for clip, truth in frozen],
        "untrained": see(untrained(requests[:few], config.sample)),
        **fooled(asked[:few], truths[:few]),
    }
    judgements = {subject: each for subject, each in found.items() if each}
    return Samples(judgements=judgements, clips=clips, renders=renders, through_vae=through_vae)


def asked_of(config: ExperimentConfig, request: Request, truth: Truth, seed: int) -> Asked:
    """A true scene of a request's prompt, at its size and length."""
    scene = scene_for(config.data.worlds, truth, seed)
    return Asked(scene=scene, size=(request.height, request.width), frames=request.frames, fps=config.sample.fps)


def _judged(clip: np.ndarray, fps: float, truth: Truth) -> Judgement:
    return Judgement(verdict=judging.judge(clip, fps), frames=len(clip), truth=truth)


def fooled(asked: Sequence[Asked], truths: Sequence[Truth]) -> Subjects:
    """Judgements of clips made to fool, by "fool: NAME", each held against all prompts. Those that know no prompt are made once a size and
    length."""
    known: dict[Hashable, Verdict] = {}

    def verdict(name: str, each: Asked, number: int) -> Verdict:
        key = (name, each.size, each.frames) if name in ANY_PROMPT else (name, number)
        if key not in known:
            known[key] = judging.judge(FOOLS[name](each), each.fps)
        return known[key]

    long = [(number, each, truth) for number, (each, truth) in enumerate(zip(asked, truths)) if each.frames >= LEAST_FRAMES]
    return {
        f"fool: {name}": [Judgement(verdict=verdict(name, each, number), frames=each.frames, truth=truth) for number, each, truth in long]
        for name in FOOLS
    }


def derangement(labels: Sequence[Hashable], seed: int) -> list[int]:
    """A permutation that gives every place an item of another label. Equal seeds give equal permutations.

    Raises ValueError where more than half of all labels are the same: there is none.
    """
    names = list(dict.fromkeys(labels))
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names))))
    order = sorted(range(len(labels)), key=lambda i: place[labels[i]])
    most = max(list(labels).count(name) for name in names)
    if 2 * most > len(labels):
        raise ValueError(f"{most} of {len(labels)} labels are the same: expected at most half")
    # Equal labels are neighbours, so what is as far away as the longest run has another.
    taken = [0] * len(labels)
    for k, i in enumerate(order):
        taken[i] = order[(k + most) % len(order)]
    return taken


def shuffled(judgements: Sequence[Judgement], seed: int) -> list[Judgement]:
    """The same verdicts held against other samples' prompts; nothing where there are too few prompts to do so."""
    try:
        taken = derangement([each.prompt for each in judgements], seed)
    except ValueError:
        return []
    return [dataclasses.replace(each, truth=judgements[k].truth) for each, k in zip(judgements, taken)]


def through(vae: TrainedVAE, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Clips uint8 `[T, H, W, 3]` as the VAE gives them back, batches of one shape at a time; edges are repeated to fill its grid."""
    stride, shapes = vae.model.config.stride, [clip.shape for clip in clips]
    found: list[np.ndarray] = [None] * len(clips)
    for shape in dict.fromkeys(shapes):
        frames, height, width, _ = shape
        members = [i for i, each in enumerate(shapes) if each == shape]
        more = [(0, -side % s) for side, s in zip((frames - 1, height, width), stride)]
        for start in range(0, len(members), _THROUGH):
            batch = members[start : start + _THROUGH]
            filled = [*batch, *[batch[-1]] * (_THROUGH - len(batch))]  # one compiled size
            padded = np.pad(np.stack([clips[i] for i in filled]), [(0, 0), *more, (0, 0)], mode="edge")
            for i, made in zip(batch, vae.decode(vae.encode(padded))):
                found[i] = made[:frames, :height, :width]
    return found


def estimates(subjects: Subjects, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """{subject: {fact: {"share", "low", "high", "n"}}} with 95 % intervals over prompts; facts as `judge.right` names them."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for subject, judgements in subjects.items():
        values: dict[str, tuple[list[float], list[str]]] = {}
        for each in judgements:
            for fact, good in judging.right(each.verdict, each.truth, each.frames).items():
                shown, prompts = values.setdefault(fact, ([], []))
                shown.append(float(good))
                prompts.append(each.prompt)
        table[subject] = {fact: dataclasses.asdict(intervals.estimate(*found, seed=seed)) for fact, found in values.items()}
    return table


def confusions(judgements: Sequence[Judgement]) -> dict[str, dict[str, dict[str, int]]]:
    """{attribute: {wanted: {judged: count}}} of a subject."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for each in judgements:
        for attribute, found in judging.facts(each.verdict, each.truth, each.frames).items():
            pairs.setdefault(attribute, []).extend(found)
    return {attribute: judging.confusion(found) for attribute, found in pairs.items() if found}

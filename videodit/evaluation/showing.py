"""Samples for people, beside what is true: the best, the middle and the worst by the judge, or without one as they come. None by hand."""

from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from etils import epath
import numpy as np

from videodit.core.files import write_atomically
from videodit.data.dataset import ClipDataset, decode_record
from videodit.data.media import encode_image
from videodit.evaluation import judge as judging
from videodit.evaluation.judge import Verdict
from videodit.evaluation.pictures import above, beside, enlarge, looping, strip, writing
from videodit.evaluation.report_shown import words
from videodit.evaluation.subjects import Judgement, Samples
from videodit.generation.sample import held_out_prompts, load_generator, requests_for
from videodit.training.config import ExperimentConfig, dataset_path

FOLDER, LIST, PICTURE = "shown", "shown.json", "best_middle_worst.png"  # in `evaluation/`
ON_PAGE, IN_PICTURE = 6, 3  # samples in a group
UNCHOSEN = 12  # samples of media files
_FRAMES, _TIMES, _TEXT_WIDTH = 5, 3, 380  # of the picture: frames in a strip, pixels a pixel, pixels of text beside it


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A sample uint8 `[T, H, W, 3]` and a true clip of its prompt, None where there is none; and what the judge says, if there is one."""

    prompt: str
    sample: np.ndarray
    true: np.ndarray | None
    seen: str | None = None
    facts: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


Groups = dict[str, list[Shown]]


def facts_of(judgement: Judgement) -> dict[str, bool]:
    """Which facts of a clip are right, "whole" left out: it is none of its own."""
    found = judging.right(judgement.verdict, judgement.truth, judgement.frames)
    return {fact: good for fact, good in found.items() if fact != "whole"}


def ranked(judgements: Sequence[Judgement], seed: int) -> list[int]:
    """Places of judgements by the share of facts that are right, the highest first; equal ones in an order that the seed draws."""
    shares = [np.mean(list(facts_of(each).values())) for each in judgements]
    drawn = np.random.default_rng(seed).permutation(len(judgements))
    return sorted((int(i) for i in drawn), key=lambda i: -shares[i])


def best_middle_worst(order: Sequence[int], most: int) -> dict[str, list[int]]:
    """The first, the middle and the last `most` of an order, fewer where there are not three times as many; none is in two groups."""
    count = len(order)
    size = min(most, max(1, count // 3))
    middle = max(size, (count - size) // 2)
    last = max(size, count - size)
    found = {"best": order[:size], "middle": order[middle : min(middle + size, last)], "worst": order[last:]}
    return {name: list(each) for name, each in found.items() if each}


def rule(count: int, most: int, seed: int) -> str:
    """How the groups of `best_middle_worst` came about, for people."""
    size = min(most, max(1, count // 3))
    return (
        f"Nothing is chosen by hand. All {count:,} samples are sorted by the share of the judge's facts that are right, equal ones in "
        f"random order (seed {seed}): shown are the first {size}, the {size} in the middle and the last {size}."
    )


def seen(verdict: Verdict) -> str:
    """What the judge saw, in words."""
    solids = [
        f"{each.colour} {each.shape}" + (f", {each.direction}" if each.direction else "") + (", hops" if each.hops else "")
        for each in verdict.solids
    ]
    camera = [f"camera: {verdict.camera}"] if verdict.camera and solids else []
    return "; ".join([*(solids or ["nothing"]), *camera, *sorted(verdict.faults)])


def show_judged(samples: Samples, fps: float, seed: int, folder: epath.Path) -> None:
    """Writes into `folder` the best, middle and worst samples of a worlds' model, each beside the true render of its prompt: what
    `write_shown` does, and `best_middle_worst.png`."""
    judgements = samples.judgements["trained"]
    order = ranked(judgements, seed)
    groups = lambda most: {
        name: [_judged(samples, i) for i in places] for name, places in best_middle_worst(order, most).items()
    }
    write_shown(groups(ON_PAGE), rule(len(order), ON_PAGE, seed), "true render of the prompt", fps, folder)
    write_atomically(folder / PICTURE, picture(groups(IN_PICTURE), rule(len(order), IN_PICTURE, seed)))


def _judged(samples: Samples, i: int) -> Shown:
    judgement = samples.judgements["trained"][i]
    facts = facts_of(judgement)
    return Shown(
        prompt=judgement.prompt,
        sample=samples.clips[i],
        true=samples.renders[i],
        seen=seen(judgement.verdict),
        facts=tuple(facts),
        wrong=tuple(fact for fact, good in facts.items() if not good),
    )


def show_unchosen(config: ExperimentConfig, workdir: epath.Path, folder: epath.Path) -> None:
    """Writes into `folder`, by `write_shown`, samples of the first held-out captions of media files beside the clips they are of."""
    prompts = held_out_prompts(config, workdir)[:UNCHOSEN]
    requests = requests_for(config, prompts, len(prompts), config.evaluate.seed)
    dataset = ClipDataset(dataset_path(config, workdir), "held_out")
    clips = load_generator(config, workdir)(requests, config.sample)
    shown = []
    for asked, request, clip in zip(prompts, requests, clips):
        record = dataset[asked["record"]] if "record" in asked else None
        true = record and decode_record(
            record,
            fps=config.sample.fps if record["frames"] > 1 else None,
            frames=request.frames,
            size=(request.height, request.width),
        )
        shown.append(Shown(prompt=request.prompt, sample=clip, true=true))
    told = f"Nothing is chosen: samples of the first {len(shown)} captions of the held-out clips, in their order."
    write_shown({"": shown}, told, "held-out clip whose caption was the prompt", config.sample.fps, folder)


def write_shown(groups: Groups, how: str, true: str, fps: float, folder: epath.Path) -> None:
    """Writes each clip as a looping picture, `shown/NNN.webp` and `shown/NNN-true.webp`, and then `shown.json`, which says what they are.

    `how` says how they were chosen, `true` what stands beside a sample.
    """
    listed, number = [], 0
    for name, group in groups.items():
        told: list[dict[str, Any]] = []
        for each in group:
            files = {"sample": f"{FOLDER}/{number:03d}.webp"}
            write_atomically(folder / files["sample"], looping(each.sample, fps))
            if each.true is not None:
                files["true"] = f"{FOLDER}/{number:03d}-true.webp"
                write_atomically(folder / files["true"], looping(each.true, fps))
            frames, height, width, _ = each.sample.shape
            verdict = {"seen": each.seen, "facts": each.facts, "wrong": each.wrong}
            told.append({"prompt": each.prompt, "frames": frames, "size": [height, width], **verdict, **files})
            number += 1
        listed.append({"name": name, "clips": told})
    write_atomically(folder / LIST, json.dumps({"how": how, "true": true, "groups": listed}, indent=2) + "\n")


def picture(groups: Groups, how: str) -> bytes:
    """A PNG of labelled groups: of each sample a strip of frames above that of the true render, both enlarged, and words beside them."""
    rows = {name: [_strips(each) for each in group] for name, group in groups.items()}
    widest = max(strips.shape[1] for group in rows.values() for strips in group)
    full = widest + _TEXT_WIDTH + 24
    parts = [writing([how, "Of each pair, above the sample, below a true render of the same prompt."], full)]
    for name, group in groups.items():
        parts += [_paper(14, 1), writing([name.capitalize()], full, size=28)]
        for each, strips in zip(group, rows[name]):
            lines = [each.prompt, "", f"judge: {each.seen}", "", words(each.facts, each.wrong)]
            right = widest - strips.shape[1] + 20
            parts += [beside([strips, _paper(1, right), writing(lines, _TEXT_WIDTH)]), _paper(22, 1)]
    return encode_image(beside([_paper(1, 8), above([_paper(6, 1), *parts]), _paper(1, 8)]))


def _strips(shown: Shown) -> np.ndarray:
    return enlarge(above([strip(clip, _FRAMES) for clip in (shown.sample, shown.true) if clip is not None]), _TIMES)


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)

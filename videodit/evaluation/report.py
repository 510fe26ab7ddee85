"""The report of a run: `report.html`, one self-contained page, and `report.json`, the same figures for programs.

Only files of the workdir are read, and any of them may be missing or half written, so a report can be made at any moment of a run.
"""

import dataclasses
import json
import math
import statistics
from typing import Any

from etils import epath

from videodit.core.files import write_atomically
from videodit.data import shards, summary
from videodit.evaluation import report_page

STAGES = ("install", "prepare", "vae", "encode", "dit", "sample")
SCORES = ("whole", "colour", "shape", "motion")
SUBJECTS = ("trained", "untrained", "truth")
RATES = ("tokens_per_second", "model_flops_per_second", "matmul_flops_per_second")

Metrics = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """All that a workdir's files say of its run.

    Attributes:
      figures: in the layout of `report.json`.
      vae: metrics of the VAE's training, one dict a log point, by increasing step.
      dit: metrics of the DiT's training.
      samples: (step, what `samples.json` lists with each file's bytes under "bytes") by increasing step.
      reconstructions: (step, PNG bytes) of the VAE's newest picture; None where there is none.
      dataset: what `videodit.data.summary.summarise` says; None where there is no dataset yet.
      evaluation: `evaluation.json`; {} where there is none.
      shown: `evaluation/shown.json` with the bytes of its files under "bytes", by name; None where there is none.
      config: `config.json`; None where there is none.
    """

    name: str
    figures: dict[str, Any]
    vae: Metrics
    dit: Metrics
    samples: list[tuple[int, list[dict[str, Any]]]]
    reconstructions: tuple[int, bytes] | None
    dataset: dict[str, Any] | None
    evaluation: dict[str, Any]
    shown: dict[str, Any] | None
    config: dict[str, Any] | None


def write_report(workdir: epath.PathLike) -> epath.Path:
    """Writes `report.html` and `report.json` into `workdir` from what its files hold now, and returns the page's path."""
    workdir = epath.Path(workdir)
    run = collect(workdir)
    write_atomically(workdir / "report.json", json.dumps(run.figures, indent=2, allow_nan=False) + "\n")
    return write_atomically(workdir / "report.html", report_page.page(run))


def collect(workdir: epath.PathLike) -> Run:
    """Reads a workdir's files into a `Run`."""
    workdir = epath.Path(workdir)
    config, evaluation = _json(workdir / "config.json"), _json(workdir / "evaluation.json") or {}
    alone = isinstance(config, dict) and config.get("model") == "vae"  # a VAE's own workdir, or that of a whole job
    vae, dit = read_metrics(workdir if alone else workdir / "vae"), [] if alone else read_metrics(workdir)
    return Run(
        name=workdir.name,
        figures=figures(evaluation, _json(workdir / "stages.json") or {}, vae, dit),
        vae=vae,
        dit=dit,
        samples=_samples(workdir),
        reconstructions=_newest_reconstructions(workdir if alone else workdir / "vae"),
        dataset=_dataset(workdir / "dataset"),
        evaluation=evaluation,
        shown=_shown(workdir / "evaluation"),
        config=config,
    )


def figures(evaluation: dict[str, Any], stages: dict[str, Any], vae: Metrics, dit: Metrics) -> dict[str, Any]:
    """Returns the content of `report.json`: every key is there, None where it is not measured yet.

    What `evaluation.json` says comes first; rates are else the median over the DiT's log points, and memory the most of any stage.
    """
    judge, told, measured_vae = (evaluation.get(name) or {} for name in ("judge", "train", "vae"))
    measured = [evaluation, *vae, *dit]
    share = lambda subject, fact: _number(((judge.get(subject) or {}).get(fact) or {}).get("share"))
    return {
        "vae": {name: _number(measured_vae.get(name)) for name in ("psnr_db", "ssim", "above_bicubic_db")},
        "judge": {
            subject: {score: share(subject, score) for score in SCORES} for subject in SUBJECTS
        },
        "seconds": {stage: _number(stages.get(stage)) for stage in STAGES},
        "real_token_share": _first(_number(evaluation.get("real_token_share")), _middle(dit, "real_token_share")),
        "train": {rate: _first(_number(told.get(rate)), _middle(dit, rate)) for rate in RATES},
        "peak_memory_bytes": max((int(each) for each in map(_peak, measured) if each is not None), default=None),
    }


def read_metrics(workdir: epath.PathLike) -> Metrics:
    """Returns the log points of `workdir/metrics/metrics.jsonl` by increasing step.

    A run that was killed and resumed repeats steps: the later line wins. A half-written line is left out.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for line in (_text(epath.Path(workdir) / "metrics" / "metrics.jsonl") or "").splitlines():
        try:
            # A kill can leave half a line; what the resumed run appends stands behind it on the same line.
            point = json.loads(line[max(0, line.rfind('{"step"')) :])
        except ValueError:
            continue
        if isinstance(point, dict) and isinstance(point.get("step"), int):
            by_step[point["step"]] = {**by_step.get(point["step"], {}), **point}
    return [by_step[step] for step in sorted(by_step)]


def _samples(workdir: epath.Path) -> list[tuple[int, list[dict[str, Any]]]]:
    found = []
    for folder in _by_step(workdir / "samples"):
        listed = _json(folder / "samples.json") or []
        shown = [dict(each, bytes=data) for each in listed if (data := _bytes(folder / each["file"])) is not None]
        if shown:
            found.append((int(folder.name), shown))
    return found


def _shown(folder: epath.Path) -> dict[str, Any] | None:
    found = _json(folder / "shown.json")
    if not found:
        return None
    clips = [each for group in found["groups"] for each in group["clips"]]
    data = {name: _bytes(folder / name) for each in clips for kind in ("sample", "true") if (name := each.get(kind))}
    return found | {"bytes": {name: read for name, read in data.items() if read is not None}}


def _newest_reconstructions(workdir: epath.Path) -> tuple[int, bytes] | None:
    for folder in reversed(_by_step(workdir / "samples")):
        picture = _bytes(folder / "reconstruction.png")
        if picture is not None:
            return int(folder.name), picture
    return None


def _dataset(directory: epath.Path) -> dict[str, Any] | None:
    if not summary.is_dataset(directory):
        return None
    return summary.summarise(directory, examples=3 if shards.is_complete(directory) else 0)


def _by_step(folder: epath.Path) -> list[epath.Path]:
    if not folder.exists():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def _bytes(path: epath.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text(path: epath.Path) -> str | None:
    data = _bytes(path)
    return None if data is None else data.decode(errors="replace")


def _json(path: epath.Path) -> Any:
    try:
        return json.loads(_text(path) or "null")
    except ValueError:
        return None


def _number(value: Any) -> float | int | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if known else None


def _peak(point: dict[str, Any]) -> float | int | None:
    return _number(point.get("peak_memory_bytes"))


def _middle(points: Metrics, key: str) -> float | None:
    values = [value for each in points if (value := _number(each.get(key))) is not None]
    return statistics.median(values) if values else None


def _first(*values: float | int | None) -> float | int | None:
    return next((value for value in values if value is not None), None)

"""The page of a run's report: sections as HTML, pictures and clips inside it as data URIs."""

import base64
from html import escape
import io
import itertools
import json
from typing import TYPE_CHECKING, Any

from PIL import Image

from videodit.data import media
from videodit.evaluation import figures, judge_table, picture_table, report_shown, vae_table
from videodit.evaluation.report_style import STYLE

if TYPE_CHECKING:
    from videodit.evaluation.report import Metrics, Run

_MOST_STEPS, _MOST_PROMPTS = 5, 12
# Above this, a clip goes in as the file it is: an animated WebP of it would be many times as large.
_MOST_WEBP_PIXELS = 4_000_000
_NAMES = {"vae": "VAE", "dit": "DiT"}


def page(run: "Run") -> str:
    """Returns the whole page. Sections with nothing to show yet are left out."""
    sections = [
        ("", _tiles(run)),
        ("Samples beside what is true", report_shown.section(run.shown)),
        ("Samples as they improved", _samples(run)),
        ("The judge", _judge(run)),
        ("The picture", _picture(run)),
        ("The VAE", _reconstructions(run) + _vae(run)),
        ("Training", _training(run)),
        ("What it was trained on", _dataset(run)),
        ("Time", _time(run)),
        ("Config", _config(run)),
    ]
    body = "".join(f"<section>{f'<h2>{title}</h2>' if title else ''}{content}</section>" for title, content in sections if content)
    title = f"videodit: {escape(run.name)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><header><h1>{title}</h1>{_progress(run)}</header>"
        f"<main>{body or '<p>Nothing has been written yet.</p>'}</main></body></html>\n"
    )


def _progress(run: "Run") -> str:
    done = [f"{_NAMES[kind]} at step {points[-1]['step']:,}" for kind, points in (("vae", run.vae), ("dit", run.dit)) if points]
    if not run.evaluation:
        done.append("not evaluated yet")
    return f"<p>{escape(', '.join(done))}</p>"


def _tiles(run: "Run") -> str:
    told, trained = run.figures, run.figures["judge"]["trained"]
    rates = told["train"]
    seconds = [each for each in told["seconds"].values() if each is not None]
    tiles = [
        ("VAE, held-out PSNR", told["vae"]["psnr_db"], lambda each: f"{each:.1f} dB"),
        ("VAE above bicubic scaling", told["vae"]["above_bicubic_db"], lambda each: f"{each:+.1f} dB"),
        *((f"{score} right", trained[score], lambda each: f"{each:.0%}") for score in trained),
        ("whole job", sum(seconds) if seconds else None, _duration),
        ("real tokens a second", rates["tokens_per_second"], figures.short),
        ("of the matrix-product rate", _share_of_matmul(rates), lambda each: f"{each:.0%}"),
        ("of tokens are real", told["real_token_share"], lambda each: f"{each:.1%}"),
        ("peak memory", told["peak_memory_bytes"], lambda each: f"{each / 2**30:.2f} GiB"),
    ]
    known = [(name, form(value)) for name, value, form in tiles if value is not None]
    return "".join(f'<div class="tile"><b>{escape(text)}</b><span>{escape(name)}</span></div>' for name, text in known)


def _share_of_matmul(rates: dict[str, float | None]) -> float | None:
    model, matmul = rates["model_flops_per_second"], rates["matmul_flops_per_second"]
    return model / matmul if model is not None and matmul else None


def _samples(run: "Run") -> str:
    """A row for each fixed prompt and seed, a column for each step."""
    if not run.samples:
        return ""
    chosen = _evenly(run.samples, _MOST_STEPS)
    by_step = [(step, {(each.get("prompt"), each.get("seed"), *each.get("size", ())): each for each in listed}) for step, listed in chosen]
    rows = dict.fromkeys(itertools.chain.from_iterable(reversed([list(listed) for _, listed in by_step])))
    head = "".join(f"<th>step {step:,}</th>" for step, _ in by_step)
    body = []
    for key in itertools.islice(rows, _MOST_PROMPTS):
        newest = next(listed[key] for _, listed in reversed(by_step) if key in listed)
        cells = "".join(f"<td>{_clip(listed[key]) if key in listed else ''}</td>" for _, listed in by_step)
        height, width = (newest.get("size") or (0, 0))[:2]
        shape = f"{width}x{height}, " + (f"{newest['frames']} frames" if newest.get("frames", 1) > 1 else "an image")
        body.append(f"<tr><th>{escape(str(key[0]))}<small>seed {escape(str(key[1]))}, {shape}</small></th>{cells}</tr>")
    return f'<div class="wide"><table class="samples"><tr><th></th>{head}</tr>{"".join(body)}</table></div>'


def _evenly(items: list[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _clip(sample: dict[str, Any]) -> str:
    data, file = sample["bytes"], str(sample["file"])
    label = escape(str(sample.get("prompt", "")), quote=True)
    if not file.endswith(".mp4"):
        return f'<img alt="{label}" src="{_uri("image/png", data)}">'
    height, width = (sample.get("size") or (0, 0))[:2]
    if height * width * sample.get("frames", 1) > _MOST_WEBP_PIXELS:
        return f'<video aria-label="{label}" autoplay loop muted playsinline src="{_uri("video/mp4", data)}"></video>'
    try:
        # Small clips are 4:4:4, which not every browser decodes; animated WebP plays in all.
        moving = to_webp(data, sample.get("fps") or 8)
    except media.MediaError as error:
        return f"<small>{escape(str(error))}</small>"
    return f'<img alt="{label}" src="{_uri("image/webp", moving)}">'


def to_webp(video: bytes, fps: float) -> bytes:
    """Returns a video file as an endlessly looping animated WebP."""
    frames = [Image.fromarray(each) for each in media.decode(video)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, quality=85, method=2)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _judge(run: "Run") -> str:
    table = ""
    if judged := run.evaluation.get("judge"):
        table = _table(judge_table.cells(judged))
    keys = sorted({key for point in run.dit for key in point if key.startswith("judge")})
    minutes = _minutes(run.dit)
    charts = ""
    for label, axis in (("step", [point["step"] for point in run.dit]), ("minutes of training", minutes)):
        series = [
            figures.Series(
                name=key.removeprefix("judge").strip("_/. "),
                x=[x for x, point in zip(axis, run.dit) if key in point],
                y=[point[key] for point in run.dit if key in point],
                colour=i + 1,
                dots=True,
            )
            for i, key in enumerate(keys)
        ]
        charts += figures.line_chart(series, x_label=label, y_label="share judged right", y_range=(0, 1), percent=True)
    return table + (f'<div class="charts">{charts}</div>' if charts else "")


def _minutes(points: "Metrics") -> list[float]:
    """Minutes of training at each log point; a pause, such as between a kill and a resume, counts as one usual interval."""
    times = [point.get("time", 0.0) for point in points]
    gaps = [max(0.0, later - sooner) for sooner, later in itertools.pairwise(times)]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
    return list(itertools.accumulate((min(gap, 10 * usual) / 60 for gap in gaps), initial=0.0))[: len(points)]


def _reconstructions(run: "Run") -> str:
    if run.reconstructions is None:
        return ""
    step, picture = run.reconstructions
    shown = f'<img class="whole" alt="true frames beside reconstructed ones" src="{_uri("image/png", picture)}">'
    return f'<p>Held-out clips and what the VAE makes of them, step {step:,}.</p><div class="wide">{shown}</div>'


def _vae(run: "Run") -> str:
    """The measures of held-out clips beside those of bicubic scaling, and the health of the latents."""
    found = run.evaluation.get("vae") or {}
    if "latents" not in found:
        return ""
    notes = _notes(vae_table.notes(found))
    health = escape("\n".join(vae_table.health(found["latents"])))
    return f'<h3>Held-out clips</h3>{_table(vae_table.cells(found))}{notes}<h3>Latents</h3><pre>{health}</pre>'


def _picture(run: "Run") -> str:
    """The measures of samples' pictures beside those of true renders."""
    found = run.evaluation.get("picture")
    return _table(picture_table.cells(found)) + _notes(picture_table.notes(found)) if found else ""


def _table(cells: list[list[str]]) -> str:
    """Rows of text, the head first, the first column names; the others hold numbers."""
    head, *body = cells
    top = f"<th>{escape(head[0])}</th>" + "".join(f'<th class="number">{escape(cell)}</th>' for cell in head[1:])
    numbers = lambda each: "".join(f'<td class="number">{escape(cell)}</td>' for cell in each)
    rows = "".join(f"<tr><th>{escape(name)}</th>{numbers(each)}</tr>" for name, *each in body)
    return f'<div class="wide"><table><tr>{top}</tr>{rows}</table></div>'


def _notes(notes: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _training(run: "Run") -> str:
    charts = []
    for kind, points in (("vae", run.vae), ("dit", run.dit)):
        charts.append(_curve(points, "loss", f"{_NAMES[kind]} loss", logarithmic=kind == "vae", smoothed=True))
    charts.append(_curve(run.vae, "psnr_db", "VAE PSNR, dB"))
    charts.append(_rates(run.dit, "DiT, real tokens a second", {"tokens_per_second": "tokens"}))
    flops = {"model_flops_per_second": "model", "matmul_flops_per_second": "plain matrix product"}
    charts.append(_rates(run.dit, "DiT, FLOP a second", flops))
    return f'<div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _curve(points: "Metrics", key: str, label: str, *, logarithmic: bool = False, smoothed: bool = False) -> str:
    known = [(point["step"], float(point[key])) for point in points if isinstance(point.get(key), (int, float))]
    if not known:
        return ""
    x, y = [step for step, _ in known], [value for _, value in known]
    series = [figures.Series(name=label, x=x, y=y)]
    if smoothed and len(y) > 20:
        series = [figures.Series(name=label, x=x, y=y, faint=True),
                  figures.Series(name=label, x=x, y=figures.smooth(y, max(5, len(y) // 40)))]
    return figures.line_chart(series, x_label="step", y_label=label, logarithmic=logarithmic)


def _rates(points: "Metrics", label: str, keys: dict[str, str]) -> str:
    series = []
    for colour, (key, name) in enumerate(keys.items(), 1):
        known = [(point["step"], point[key]) for point in points if isinstance(point.get(key), (int, float))]
        series.append(figures.Series(name=name, x=[x for x, _ in known], y=[y for _, y in known], colour=colour))
    most = max((y for each in series for y in each.y), default=0)
    return figures.line_chart(series, x_label="step", y_label=label, y_range=(0, 1.05 * most)) if most > 0 else ""


def _dataset(run: "Run") -> str:
    if not run.dataset:
        return ""
    rows = []
    for split, told in run.dataset["splits"].items():
        sizes = told.get("sizes", [])
        listed = ", ".join(f"{each['width']}x{each['height']} ({each['clips']:,})" for each in sizes[:8])
        more = f" and {len(sizes) - 8} more" if len(sizes) > 8 else ""
        least, most = told.get("clip_seconds") or (None, None)
        duration = "" if least is None else (f"{least:g} s" if least == most else f"{least:g} to {most:g} s")
        rows.append(
            f'<tr><th>{escape(split)}</th><td class="number">{told["clips"]:,}</td><td class="number">{told.get("images", 0):,}</td>'
            f'<td>{duration}</td><td class="number">{_duration(told.get("seconds", 0))}</td><td>{escape(listed + more)}</td></tr>'
        )
    head = "<tr><th>split</th><th>clips</th><th>of them images</th><th>duration</th><th>in all</th><th>sizes</th></tr>"
    table = f'<div class="wide"><table>{head}{"".join(rows)}</table></div>' if rows else "<p>The dataset is not finished yet.</p>"
    captions = [text for each in run.dataset["captions"] for text in each.values() if text]
    quoted = "".join(f"<li>{escape(each)}</li>" for each in captions)
    rejects = "".join(f"<li>{count:,}: {escape(reason)}</li>" for reason, count in run.dataset["rejects"].items())
    return (
        table
        + (f"<h3>Captions, for example</h3><ul>{quoted}</ul>" if quoted else "")
        + (f"<h3>Left out, and why</h3><ul>{rejects}</ul>" if rejects else "")
    )


def _time(run: "Run") -> str:
    names = {"vae": "train the VAE", "dit": "train the DiT", "sample": "sample and evaluate"}
    known = [(stage, seconds) for stage, seconds in run.figures["seconds"].items() if seconds is not None]
    return figures.bars([(names.get(stage, stage), seconds, _duration(seconds)) for stage, seconds in known])


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _config(run: "Run") -> str:
    if run.config is None:
        return ""
    return f"<details><summary>the whole resolved config</summary><pre>{escape(json.dumps(run.config, indent=2))}</pre></details>"

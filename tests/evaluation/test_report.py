"""A report can be made at any moment of a run, holds everything it shows, and has every figure's key."""

import html.parser
import io
import json

import numpy as np
from PIL import Image
import pytest

from videodit.data import media
from videodit.data.pipeline import Window
from videodit.evaluation import figures, report, report_page
from videodit.evaluation.latent_health import LatentHealth
from videodit.evaluation.vae import Measured, rows

LAYOUT = {
    "vae": {"psnr_db", "ssim", "above_bicubic_db"},
    "judge": {"trained", "untrained", "truth"},
    "seconds": {"install", "prepare", "vae", "encode", "dit", "sample"},
    "train": {"tokens_per_second", "model_flops_per_second", "matmul_flops_per_second"},
}
SHARES = {"whole": 0.5, "colour": 0.9, "shape": 0.6, "motion": 0.7}


class Page(html.parser.HTMLParser):
    """Collects what a page shows and where it takes it from; fails on tags that do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text, self.kinds = [], [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.kinds.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in ("meta", "img", "br", "input", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.kinds.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def write_metrics(workdir, lines):
    (workdir / "metrics").mkdir(parents=True)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (workdir / "metrics" / "metrics.jsonl").write_text("".join(f"{line}\n" for line in text))


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def workdir(tmp_path):
    write_metrics(tmp_path / "vae", [{"step": s, "time": 1.0 * s, "loss": 1 / s, "peak_memory_bytes": 300} for s in range(1, 50)])
    write_metrics(tmp_path, [
        {"step": 1, "time": 1.0, "loss": float("nan"), "tokens_per_second": 10.0, "real_token_share": 0.9, "peak_memory_bytes": 100},
        {"step": 2, "time": 2.0, "loss": 0.5, "tokens_per_second": 30.0, "real_token_share": 0.9, "judge_colour": 0.5},
    ])
    clip = np.zeros((5, 36, 64, 3), np.uint8)
    for step in (10, 20):
        folder = tmp_path / "samples" / str(step)
        dump(folder / "samples.json", [
            {"prompt": "a <red> ball", "seed": 0, "file": "0.mp4", "size": [36, 64], "frames": 5, "fps": 8},
            {"prompt": "a cube", "seed": 1, "file": "1.png", "size": [36, 64], "frames": 1, "fps": 8},
            {"prompt": "never written", "seed": 2, "file": "2.mp4", "size": [36, 64], "frames": 5, "fps": 8},
        ])
        (folder / "0.mp4").write_bytes(media.encode_video(clip, 8.0))
        (folder / "1.png").write_bytes(media.encode_image(clip[0]))
    (tmp_path / "vae" / "samples" / "49").mkdir(parents=True)
    (tmp_path / "vae" / "samples" / "49" / "reconstruction.png").write_bytes(media.encode_image(clip[0]))
    dump(tmp_path / "stages.json", {"install": 60.0, "prepare": 5.5})
    judged = {name: {"share": share, "low": 0.4, "high": 0.95, "n": 20} for name, share in SHARES.items()}
    dump(tmp_path / "evaluation.json", {"vae": {"psnr_db": 30.5}, "judge": {"trained": judged}})
    dump(tmp_path / "config.json", {"seed": 0})
    return tmp_path


def read(workdir):
    path = report.write_report(workdir)
    return Page(path.read_text()), json.loads((workdir / "report.json").read_text())


def test_page_is_self_contained_and_shows_every_sample(workdir):
    page, _ = read(workdir)
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert "script" not in page.kinds and "link" not in page.kinds
    assert sum(source.startswith("data:image/webp") for source in page.sources) == 2
    assert sum(source.startswith("data:image/png") for source in page.sources) == 3
    assert "a <red> ball" in page.text and "never written" not in page.text
    assert page.kinds.count("svg") >= 4


def test_figures_come_from_what_was_measured(workdir):
    page, told = read(workdir)
    assert told["vae"]["psnr_db"] == 30.5
    assert told["judge"]["trained"] == SHARES
    assert told["judge"]["truth"] == dict.fromkeys(SHARES)
    assert told["seconds"]["install"] == 60.0 and told["seconds"]["dit"] is None
    assert "50.0 [40.0, 95.0]" in page.text
    assert told["train"]["tokens_per_second"] == 20.0
    assert (told["real_token_share"], told["peak_memory_bytes"]) == (0.9, 300)


def test_the_page_shows_the_table_of_the_vae_and_the_health_of_its_latents(workdir):
    window = Window(record=0, start=0.0, frames=9, height=40, width=64)
    measures = {"psnr_db": 31.25, "ssim": 0.9, "lpips": None, "flicker": 0.5}
    of = {"vae": measures, "same_numbers": measures | {"psnr_db": 27.0}, "same_stride": measures | {"psnr_db": 24.0}}
    health = LatentHealth(2)
    health.add(np.array([[1.0, 0.0], [2.0, 0.0]]), np.zeros((2, 2)), 640)
    latents = health.figures() | {"normalised_mean": [0.0, 0.0], "normalised_std": [1.0, 1.0]}
    found = {"psnr_db": 31.25, "above_bicubic_db": 4.25, "lpips": None, "latents": latents, **rows([Measured(window=window, of=of)])}
    dump(workdir / "evaluation.json", {"vae": found})
    page, told = read(workdir)
    assert told["vae"] == {"psnr_db": 31.25, "ssim": None, "above_bicubic_db": 4.25}
    for text in ("9x40x64", "31.25", "+4.25", "+7.25", "LPIPS is off", "1 of 2 channels dead (1)"):
        assert text in page.text


def test_the_page_shows_samples_beside_what_is_true_and_the_measures_of_their_pictures(workdir):
    clips = [{"prompt": "a ring", "frames": 1, "size": [4, 4], "seen": "cube", "facts": ["shape"], "wrong": ["shape"], "sample": "a.webp"}]
    dump(workdir / "evaluation" / "shown.json", {"how": "As they come.", "true": "clip", "groups": [{"name": "worst", "clips": clips}]})
    (workdir / "evaluation" / "a.webp").write_bytes(b"picture")
    figures = {"edge_width": {"samples": 1.5, "vae": 1.25, "true": 1.0, "over_true": 1.5}}
    dump(workdir / "evaluation.json", {"picture": {"figures": figures, "two_sample": {}, "fvd": {"left_out": "no weights"}}})
    page, _ = read(workdir)
    for text in ("a ring", "As they come.", "Worst", "wrong, 1 of 1 facts: shape", "width of edges", "1.250", "no weights"):
        assert text in page.text
    assert "data:image/webp;base64,cGljdHVyZQ==" in page.sources and all(source.startswith("data:") for source in page.sources)


def test_a_workdir_of_a_vae_alone_shows_its_own_training(workdir):
    alone = workdir / "vae"
    dump(alone / "config.json", {"model": "vae"})
    page, _ = read(alone)
    assert "VAE at step 49" in page.text and "DiT" not in page.text
    assert sum(source.startswith("data:image/png") for source in page.sources) == 1


def test_every_key_is_there_before_anything_has_run(tmp_path):
    page, told = read(tmp_path)
    assert set(told) == {*LAYOUT, "real_token_share", "peak_memory_bytes"}
    assert all(set(told[section]) == keys for section, keys in LAYOUT.items())
    assert told["peak_memory_bytes"] is None and told["train"]["tokens_per_second"] is None
    assert "Nothing has been written yet" in page.text


@pytest.mark.parametrize("missing", ["vae/metrics/metrics.jsonl", "metrics/metrics.jsonl", "samples/20/samples.json", "samples/10/0.mp4",
                                     "vae/samples/49/reconstruction.png", "stages.json", "evaluation.json", "config.json"])
@pytest.mark.parametrize("half", [False, True])
def test_any_file_may_be_missing_or_half_written(workdir, missing, half):
    path = workdir / missing
    if half:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    page, told = read(workdir)
    assert set(told) == {*LAYOUT, "real_token_share", "peak_memory_bytes"} and page.kinds


def test_after_a_resume_the_later_line_of_a_step_wins(tmp_path):
    write_metrics(tmp_path, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, '{"step": 3, "lo', {"step": 2, "loss": 5.0}, {"step": 3}])
    assert report.read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 5.0}, {"step": 3}]


def test_a_line_behind_a_half_written_one_is_read(tmp_path):
    write_metrics(tmp_path, [{"step": 1, "loss": 1.0}, '{"step": 2, "lo{"step": 2, "loss": 2.0}'])
    assert report.read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}]


def test_minutes_of_training_leave_out_the_pause_between_a_kill_and_a_resume():
    times = [0, 60, 120, 100_000, 100_060]
    minutes = report_page._minutes([{"step": i, "time": time} for i, time in enumerate(times)])
    assert minutes[:3] == [0, 1, 2] and minutes[-1] < 15


def test_webp_keeps_every_frame():
    clip = np.random.default_rng(0).integers(0, 255, (9, 16, 24, 3), np.uint8)
    moving = Image.open(io.BytesIO(report_page.to_webp(media.encode_video(clip, 8.0), 8.0)))
    assert (moving.n_frames, moving.size) == (9, (24, 16))


@pytest.mark.parametrize("y", [[1.0], [2.0, 2.0], [float("nan"), 1.0, float("inf")], [0.0, 1e-9], [1e12, -1e12]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_charts_stand_any_values(y, logarithmic):
    chart = figures.line_chart([figures.Series(name="a", x=range(len(y)), y=y)], x_label="step", y_label="<loss>", logarithmic=logarithmic)
    assert "nan" not in chart and "inf" not in chart
    Page(chart)


def test_a_chart_of_nothing_is_nothing():
    assert figures.line_chart([figures.Series(name="a", x=[], y=[])], x_label="step", y_label="loss") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 0.31), (-5, 1e6), (1e-9, 3e-9)])
def test_ticks_are_few_and_inside(low, high):
    found = figures.ticks(low, high)
    assert 3 <= len(found) <= 8 and all(low <= each <= high * (1 + 1e-9) for each in found)

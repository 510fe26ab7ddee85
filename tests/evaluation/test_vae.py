"""The VAE's table: every held-out clip counts once in its size, its kind and the whole, beside what bicubic scaling makes of it."""

import dataclasses
import json

import numpy as np
import pytest

from videodit.data.pipeline import Window
from videodit.evaluation import vae, vae_table
from videodit.evaluation.quality import flicker, psnr_db, ssim
from videodit.evaluation.seams import seams_of_pair
from videodit.evaluation.sharpness import edge_sharpness
from videodit.evaluation.vae import CODECS, MEASURES, Measured, evaluate_vae, measure, rows
from videodit.training.restore import load_vae


@pytest.fixture(scope="module")
def found(tiny, tiny_latents, tmp_path_factory):
    config = tiny(data={"path": str(tiny_latents / "dataset")}, evaluate={"reconstructions": 6})
    return evaluate_vae(config, tmp_path_factory.mktemp("vae"), load_vae(tiny_latents / "vae"))


def measured(record, size, psnr, flickers=None):
    frames, height, width = size
    values = {"psnr_db": psnr, "ssim": 0.5, "lpips": None, "flicker": flickers}
    of = {"vae": values, "same_numbers": dict(values, psnr_db=psnr - 3), "same_stride": dict(values, psnr_db=psnr - 5)}
    return Measured(window=Window(record=record, start=0.0, frames=frames, height=height, width=width), of=of)


def test_every_clip_counts_in_its_size_its_kind_and_the_whole(found):
    assert found["windows"] == found["all"]["windows"] == sum(row["windows"] for row in found["sizes"]) == 6
    assert found["stills"]["windows"] + found["videos"]["windows"] == 6
    assert found["psnr_db"] == found["all"]["vae"]["psnr_db"] and found["split"] == "held_out"
    weighted = sum(row["vae"]["psnr_db"] * row["windows"] for row in found["sizes"]) / 6
    assert found["psnr_db"] == pytest.approx(weighted)
    assert found["all"]["above_db"]["same_numbers"] == pytest.approx(found["psnr_db"] - found["all"]["same_numbers"]["psnr_db"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_latents_are_those_of_all_clips(found):
    latents = found["latents"]
    assert all(len(latents[name]) == 6 for name in ("mean", "std", "noise", "kl_nats", "normalised_mean", "normalised_std"))
    assert latents["kl_bits_per_pixel"] > 0
    # Latents are normalised by training's statistics: near, for clips of the same worlds.
    assert 0.3 < min(latents["normalised_std"]) and max(latents["normalised_std"]) < 3


def test_the_best_of_clips_is_measured_as_such():
    clip = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    of = measure(clip, clip, numbers=2 * 2 * 3 * 6, stride=(4, 8, 8), lpips=lambda a, b: float(np.abs(a - b).mean()))
    assert of["vae"] == {"psnr_db": 100.0, "ssim": 1.0, "lpips": 0.0, "flicker": None, "edges": 1.0}
    # 16 numbers more than nothing: noise comes back as grey, the less so the more numbers there are.
    assert 5 < of["same_stride"]["psnr_db"] < of["same_numbers"]["psnr_db"] < 20 and of["same_stride"]["ssim"] < 0.3


def test_measures_are_of_the_source_and_the_reconstruction():
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (5, 16, 24, 3), np.uint8) // 99
    made = source + rng.integers(0, 9, source.shape, np.uint8)
    of = measure(source, made, numbers=72, stride=(4, 8, 8), lpips=None)["vae"]
    quality = {"psnr_db": psnr_db(source, made), "ssim": ssim(source, made), "lpips": None}
    assert of == quality | {"flicker": flicker(source, made), "edges": edge_sharpness(source, made)}


def test_rows_are_means_over_what_applies():
    found = rows([measured(0, (9, 16, 16), 30.0, 1.0), measured(0, (9, 16, 16), 34.0), measured(1, (1, 16, 24), 20.0)])
    assert [row["size"] for row in found["sizes"]] == ["9x16x16", "1x16x24"]
    assert (found["videos"]["clips"], found["videos"]["windows"]) == (1, 2)
    assert found["videos"]["vae"]["psnr_db"] == 32.0 and found["videos"]["vae"]["flicker"] == 1.0
    assert found["stills"]["vae"]["flicker"] is None and found["all"]["vae"]["psnr_db"] == 28.0
    assert found["all"]["edges"] == dict.fromkeys(CODECS)
    assert found["all"]["above_db"] == {"same_numbers": 3.0, "same_stride": 5.0}
    assert rows([measured(0, (1, 8, 8), 20.0)])["videos"] is None


def test_seams_are_of_steps_over_all_windows_of_a_row():
    rng = np.random.default_rng(0)
    source = rng.integers(100, 110, (9, 16, 16, 3), np.uint8)
    seamed = source.copy()
    seamed[:, 8:] += 20
    clips = {"clean": (source, source), "seamed": (seamed, source)}
    plain = measured(0, (9, 16, 16), 30.0)
    made = {name: dataclasses.replace(plain, seams=seams_of_pair(*pair, (4, 8, 8))) for name, pair in clips.items()}
    over = [rows(each)["all"]["seams"]["space"]["over_truth"] for each in ([made["clean"]], list(made.values()), [made["seamed"]])]
    assert over[0] == 1 and over[1] - 1 == pytest.approx((over[2] - 1) / 2) and over[2] > 3
    assert "seams" not in rows([measured(0, (1, 8, 8), 20.0)])["all"]


def test_pictures_are_of_the_longest_windows_of_different_clips():
    windows = [measured(record, (frames, 8, 8), 30.0).window for record, frames in ((0, 9), (0, 17), (1, 1), (2, 17), (0, 17), (3, 9))]
    assert vae._longest(windows, 3) == [1, 3, 5] and vae._longest(windows, 9) == [1, 3, 5, 2]


def test_the_table_shows_every_row_and_says_what_is_off(found):
    head, *body = vae_table.cells(found)
    assert all(len(row) == len(head) for row in body) and not any(cell.startswith("LPIPS") for cell in head)
    assert [row[0] for row in body] == [row["size"] for row in found["sizes"]] + ["stills", "videos", "all"]
    assert body[-1][2] == f"{found['psnr_db']:.2f}" and body[-3][head.index("flicker")] == "-"  # stills do not flicker
    text = vae_table.to_text(found)
    assert "LPIPS is off" in text and "KL, nats" in text and max(map(len, text.splitlines())) < 150
    assert "edges: " in text and "seams: " in text and "in time" in text


def test_lpips_has_columns_where_it_was_measured(found):
    def with_lpips(row):
        return row | {codec: row[codec] | {"lpips": 0.125} for codec in CODECS}

    sizes = [with_lpips(row) for row in found["sizes"]]
    told = found | {"lpips": "vgg16.safetensors", "sizes": sizes} | {name: with_lpips(found[name]) for name in ("stills", "videos", "all")}
    head, *body = vae_table.cells(told)
    assert len(head) == 2 + 3 * len(MEASURES) + 2 and body[-1][head.index("LPIPS")] == "0.1250"
    assert "LPIPS by vgg16.safetensors" in vae_table.to_text(told)


def test_many_sizes_are_cut_and_dead_channels_named(found):
    told = found | {"sizes": found["sizes"][:1] * 15, "latents": found["latents"] | {"dead": [1, 4]}}
    assert len(vae_table.cells(told)) == 1 + 12 + 3
    text = vae_table.to_text(told)
    assert "3 more sizes" in text and "2 of 6 channels dead (1, 4)" in text

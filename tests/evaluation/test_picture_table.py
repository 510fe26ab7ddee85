"""The table of picture measures has the truth beside every figure, and leaves out what was not measured."""

from videodit.evaluation import picture_table

APART = {"accuracy": 0.875, "low": 0.8, "high": 0.92, "clips": 90, "by_frames": {}}
PICTURE = {
    "figures": {
        "seams.space": {"samples": 1.5, "vae": 1.25, "true": 1.0, "over_true": 1.5},
        "background.flicker": {"samples": 0.75, "vae": 0.5, "true": 0.0},
        "solid.lost": {"samples": None, "vae": None, "true": None},
        "solid.clips": {"samples": 7, "vae": 7, "true": 7},
    },
    "two_sample": {"samples_from_vae": APART, "samples_from_true": None, "vae_from_true": None, "true_from_true": None},
    "fvd": None,
}


def test_every_figure_stands_beside_the_truths():
    head, *rows = picture_table.cells(PICTURE)
    assert head[1:] == ["samples", "truth through the VAE", "truth", "samples / truth"]
    assert rows[0][1:] == ["1.500", "1.250", "1.000", "1.500"] and rows[1][1:] == ["0.750", "0.500", "0.000", ""]
    assert rows[2] == ["told apart from truth through the VAE", "0.88 [0.80, 0.92]", "", "", ""] and len(rows) == 3


def test_fvd_stands_beside_its_floor_or_says_why_it_is_left_out():
    fvd = {"samples": 130.25, "truth": 40.5, "clips": 30}
    assert picture_table.cells(PICTURE | {"fvd": fvd})[-1] == ["FVD of 30 clips", "130.2", "", "40.5", ""]
    told = picture_table.to_text(PICTURE | {"fvd": {"left_out": "FVD is left out: no weights"}})
    assert told.endswith("FVD is left out: no weights") and "FVD" not in picture_table.to_text(PICTURE)

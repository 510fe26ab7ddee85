"""FLOPs of a step agree with a count by hand, matrix by matrix."""

import dataclasses

import pytest

from videodit.preflight.work import train_work

WIDTH, DEPTH, TEXT, CLIP = 32, 2, 8, 24


def experiment(tiny, remat="none", **changes):
    dit = {"width": WIDTH, "depth": DEPTH, "heads": 4, "mlp": "swiglu", "dtype": "bfloat16", "remat": remat}
    packing = {"length": 64, "rows": 8, "bins": 8, "max_text_tokens": TEXT}
    config = tiny("dit", dit=dit, packing=packing, **changes)
    policy = dataclasses.replace(config.latents.policy, max_tokens=CLIP)
    return dataclasses.replace(config, latents=dataclasses.replace(config.latents, policy=policy))


def by_hand(config):
    """(All products of a forward pass but attention's, attention's two), of one row, without the text's own network."""
    length, clip = 64, CLIP + TEXT
    clips, patch = length / clip, 1
    for side in config.dit.patch:
        patch *= side
    channels = patch * config.vae.latent_channels
    mlp = config.dit.mlp_width
    layer = 2 * length * (WIDTH * 3 * WIDTH + WIDTH * 2 * mlp + mlp * WIDTH + WIDTH * WIDTH)
    condition = 2 * length * ((2 * 32 + 3 + 1) * WIDTH + WIDTH * 3 * WIDTH + WIDTH * 2 * WIDTH)
    ends = 2 * 2 * (length - clips * TEXT) * channels * WIDTH
    return DEPTH * layer + condition + ends, DEPTH * 2 * 2 * clips * clip * clip * WIDTH


def test_a_steps_flops_agree_with_a_count_by_hand_to_one_percent(tiny):
    config = experiment(tiny, text={"refiner": {"depth": 0}})
    products, attention = by_hand(config)
    work = train_work(config)
    own = 3 * 8 * (products + attention)
    of_text = 3 * 8 * 2 * (64 / (CLIP + TEXT)) * TEXT * WIDTH * WIDTH  # from the embedding to the width
    assert work.model_flops == pytest.approx(own + of_text, rel=0.01)
    assert 8 * attention == pytest.approx(work.attention_flops, rel=0.01)
    assert work.items == 8 * 64 and work.unit == "tokens"


def test_what_remat_does_again_is_counted(tiny):
    config = experiment(tiny)
    mlp = 2 * 64 * DEPTH * WIDTH * 2 * config.dit.mlp_width
    work = {remat: train_work(experiment(tiny, remat=remat)) for remat in ("none", "named", "full")}
    assert work["none"].recomputed_flops == 0 and work["named"].recomputed_flops == pytest.approx(8 * mlp)
    assert work["full"].recomputed_flops > work["named"].recomputed_flops
    assert work["full"].attention_passes == work["named"].attention_passes + 1 == work["none"].attention_passes + 1


def test_a_vaes_work_is_in_clips(tiny):
    work = train_work(tiny("vae"))
    assert work.unit == "clips" and work.items > 0 and work.model_flops > 1e6

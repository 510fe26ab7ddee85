"""The analytic model: memory and time fall where a mesh, remat or parts of a step make them fall."""

import dataclasses

import pytest

from videodit.core.errors import UserError
from videodit.preflight.chips import parse_target
from videodit.preflight.estimate import estimate
from videodit.preflight.search import advice, candidates, changed, flags, search, search_lines
from videodit.sharding.mesh import MeshConfig

TARGET = parse_target("h100:16")


@pytest.fixture(scope="module")
def config(tiny):
    dit = {"width": 256, "depth": 4, "heads": 4, "dtype": "bfloat16", "remat": "named"}
    packing = {"length": 1024, "rows": 16, "bins": 16, "max_text_tokens": 16}
    return dataclasses.replace(tiny("dit", dit=dit, packing=packing), mesh=MeshConfig(data=1, fsdp=16))


def test_the_state_is_split_over_fsdp_and_activations_by_remat_and_parts(config):
    of = lambda **how: estimate(changed(config, **how), TARGET).memory
    whole, split = of(mesh=MeshConfig(data=16)), of()
    for kind in ("parameters", "optimizer", "average"):
        assert split[kind] < 0.2 * whole[kind]
    kept = [of(remat=remat)["activations"] for remat in ("none", "named", "full")]
    assert kept[0] > kept[1] > kept[2]
    assert of(mesh=MeshConfig(data=1, fsdp=8, context=2), rows=16)["activations"] == pytest.approx(split["activations"])
    two = changed(config, mesh=MeshConfig(data=1, fsdp=8), accumulate=2)
    assert estimate(two, parse_target("h100:8")).memory["activations"] == pytest.approx(split["activations"])


def test_what_is_not_split_is_not_sent(config):
    alone = estimate(changed(config, mesh=MeshConfig(data=1), rows=1), parse_target("h100:1")).roofline
    assert not alone.networks and alone.step == alone.compute > alone.matrix
    assert set(estimate(config, TARGET).roofline.networks) == {"fsdp DCN"}  # 16 GPUs are two hosts
    inside = estimate(changed(config, mesh=MeshConfig(data=2, fsdp=2, tensor=4)), TARGET).roofline
    assert set(inside.networks) == {"data DCN", "fsdp ICI", "tensor ICI"}


def test_a_search_ranks_what_fits_with_as_many_tokens(config):
    rows = search(config, TARGET)
    steps = [row["step_seconds"] for row in rows]
    assert steps == sorted(steps) and len(rows) > 10 and all(row["source"] == "analytic" for row in rows)
    for each in candidates(config, TARGET):
        mesh = each.mesh
        assert mesh.data * mesh.fsdp * mesh.tensor * mesh.context == 16
        assert each.packing.rows * each.packing.length == 16 * 1024 and each.packing.bins % each.packing.rows == 0
    assert len(search_lines(rows, 5)) == 7 and rows[0]["flags"].replace("--config.", "") in search_lines(rows)[2]


def test_nothing_that_fits_is_said_with_what_comes_nearest(config):
    huge = dataclasses.replace(config, dit=dataclasses.replace(config.dit, width=16384, heads=128, depth=64))
    with pytest.raises(UserError, match="nothing of .* ways fits h100:16 .* nearest, with"):
        search(huge, TARGET)


def test_advice_is_the_first_change_that_would_fit(config):
    made = estimate(config, TARGET)
    just = changed(config, remat="full")
    scale = TARGET.chip.hbm_bytes / estimate(just, TARGET).peak_bytes
    (told,) = advice(config, TARGET, made.peak_bytes * scale * 0.999)
    assert told.startswith(flags(just, config)) and "remat=full" in told
    (more,) = advice(config, TARGET, 1e15)
    assert "chips" in more

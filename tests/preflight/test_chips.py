"""Chips and the targets made of them."""

import pytest

from launch.machines import GPUS, TPUS
from videodit.core.errors import UserError
from videodit.preflight.chips import CHIPS, parse_target


def test_every_chip_that_launchers_know_has_its_facts_with_sources():
    assert set(CHIPS) == {*TPUS, *GPUS}
    for kind, chip in CHIPS.items():
        assert chip.is_tpu == (kind in TPUS) and chip.sources
        assert 1e14 < chip.flops < 1e16 and 1e10 < chip.hbm_bytes < 1e12 and chip.hbm_rate > chip.link_rate > chip.dcn_rate
        assert not chip.is_tpu or 0.9e9 < chip.flops / chip.flops_per_cycle < 4e9  # the clock, as XLA counts


def test_a_target_is_its_chips():
    assert parse_target("v5p:4x4x8").chips == 128 and parse_target("v5p:4x4x8", slices=2).devices == 256
    assert parse_target("tpu7x:2x2x2").devices == 16 and parse_target("h100:64").chips == 64


@pytest.mark.parametrize(
    "topology, slices", [("v9:2x2", 1), ("v5p", 1), ("h100:8x8", 1), ("h100:8", 2), ("v5p:2x2x1", 0), ("v5p:0x2x2", 1)]
)
def test_what_there_is_not_is_said_in_a_line(topology, slices):
    with pytest.raises(UserError, match="expected"):
        parse_target(topology, slices)

"""A topology's name says what every cloud needs to know."""

import pytest

from launch.machines import parse_topology
from videodit.core.errors import UserError


@pytest.mark.parametrize(
    ("topology", "chips", "hosts"),
    [
        ("v4:2x2x2", 8, 2),
        ("v5e:1x1", 1, 1),
        ("v5e:4x4", 16, 4),
        ("v5p:8x16x16", 2048, 512),
        ("v6e:16x16", 256, 64),
        ("tpu7x:4x4x4", 64, 16),
        ("h100:64", 64, 8),
        ("h100:2", 2, 1),
        ("cpu:2", 2, 1),
    ],
)
def test_chips_and_hosts(topology, chips, hosts):
    machine = parse_topology(topology)
    assert (machine.topology, machine.chips, machine.hosts) == (topology, chips, hosts)
    assert machine.hosts * machine.chips_per_host == chips


@pytest.mark.parametrize("topology", ["v5p", "v5p:4x4", "v5e:4x4x4", "v9:2x2", "h100:8x8", "v5e:0x4", "h100:12", "v5e:3x3", ""])
def test_what_there_is_not_is_named(topology):
    with pytest.raises(UserError, match="--topology is '"):
        parse_topology(topology)


@pytest.mark.parametrize(
    ("topology", "flags"),
    [
        ("v4:2x2x4", ["--type=v4", "--topology=2x2x4", "--runtime-version=tpu-ubuntu2204-base"]),
        ("v5e:4x4", ["--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"]),
        ("v5p:4x4x4", ["--accelerator-type=v5p-128", "--runtime-version=v2-alpha-tpuv5"]),  # TensorCores, two a chip
        ("v6e:8x8", ["--accelerator-type=v6e-64", "--runtime-version=v2-alpha-tpuv6e"]),
    ],
)
def test_the_names_of_queued_resources(topology, flags):
    assert parse_topology(topology).queued_flags() == flags


@pytest.mark.parametrize("topology", ["tpu7x:2x2x2", "h100:8", "v5p:4x4x12"])
def test_what_queued_resources_do_not_have_is_sent_elsewhere(topology):
    with pytest.raises(UserError, match="gke"):
        parse_topology(topology).queued_flags()

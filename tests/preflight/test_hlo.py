"""A program's text says what goes along which axis of the mesh, and how often."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from videodit.preflight.hlo import array_bytes, by_axes, collectives, read_program

MESH = Mesh(np.array([jax.devices()[0]] * 8).reshape(2, 4), ("data", "fsdp"))

HLO = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%async_collective_fusion.1 (p: bf16[16,128]) -> bf16[64,128] {
  %all-gather.9 = bf16[64,128]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, dimensions={0}
}

%async_collective_fusion.2 (p: bf16[16,128]) -> bf16[64,128] {
  %all-gather.11 = bf16[64,128]{1,0} all-gather(%p), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, dimensions={0}
}

%body (p: (u32[], f32[4,8])) -> (u32[], f32[4,8]) {
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[4,8]{1,0} all-reduce(%x), channel_id=3, replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
  %custom = f32[4,8]{1,0} custom-call(%all-reduce.1), frontend_attributes={kernel_metadata={
}}, custom_call_target="tpu_custom_call"
  %fused = bf16[64,128]{1,0} fusion(%x), calls=%async_collective_fusion.1
  %again = bf16[64,128]{1,0} fusion(%x), calls=%async_collective_fusion.2
}

%condition (p: (u32[], f32[4,8])) -> pred[] {
  %limit = u32[]{:T(128)} constant(5)
  %i = u32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (a: f32[4,8]) -> f32[4,8] {
  %one = u32[]{:T(128)} constant(1)
  %start = (u32[], f32[4,8]) tuple(%one, %a)
  %loop = (u32[], f32[4,8]) while(%start), condition=%condition, body=%body
  %shift = f32[4,8]{1,0} collective-permute(%a), channel_id=5, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %alone = f32[4,8]{1,0} all-reduce(%a), channel_id=6, replica_groups={{0},{1},{2},{3}}, to_apply=%add
  %scattered = f32[1,8]{1,0} reduce-scatter(%a), channel_id=8, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, to_apply=%add
  %sent = (f32[4,8]{1,0}, u32[], token[]) send(%a, %t), channel_id=9, frontend_attributes={MEGASCALE}
}
""".replace("MEGASCALE", '_xla_megascale_target="{1,2,3}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"')


@pytest.fixture(scope="module")
def found():
    return {each.kind + (" DCN" if each.dcn else ""): each for each in collectives(read_program(HLO), MESH)}


def test_what_is_in_a_loop_counts_as_often_as_it_turns(found):
    assert found["all-reduce"].times == 4  # from 1 to 5
    assert found["all-gather"].times == 4  # one channel, however many operations it goes on beside
    assert found["collective-permute"].times == 1


def test_groups_lie_along_axes_of_the_mesh(found):
    assert found["all-reduce"].axes == ("data",) and found["all-reduce"].group == (0, 4)
    assert found["all-gather"].axes == ("fsdp",) == found["reduce-scatter"].axes == found["collective-permute"].axes


def test_bytes_sent_are_those_of_a_ring(found):
    assert found["all-gather"].sent == 4 * 64 * 128 * 2 * 3 / 4
    assert found["all-reduce"].sent == 4 * 2 * 4 * 8 * 4 / 2
    assert found["reduce-scatter"].sent == 8 * 4 * 3
    assert found["collective-permute"].sent == 4 * 8 * 4


def test_what_goes_between_slices_goes_by_the_data_centres_network(found):
    between = found["all-reduce DCN"]
    assert len(between.group) == 3 and between.axes == ("data",) and between.sent == 2 * 4 * 8 * 4 * 2 / 3


def test_what_is_alone_sends_nothing(found):
    assert not any(len(each.group) == 1 for each in found.values())


def test_sums_are_by_axes_network_and_kind(found):
    rows = by_axes(list(found.values()))
    assert {(row["axes"], row["network"], row["kind"]) for row in rows} >= {("fsdp", "ICI", "all-gather"), ("data", "DCN", "all-reduce")}
    gathered = next(row for row in rows if row["kind"] == "all-gather")
    assert gathered["overlapped_bytes"] == gathered["bytes_sent"] == found["all-gather"].sent
    assert next(row for row in rows if row["kind"] == "reduce-scatter")["overlapped_bytes"] == 0


def test_bytes_on_the_chip_are_none():
    assert array_bytes("(f32[8,128]{1,0:T(8,128)}, bf16[4]{0:T(128)S(1)}, s32[]{:T(128)})") == 8 * 128 * 4 + 4


def test_a_program_of_this_very_xla_is_read():
    mesh = Mesh(np.array(jax.devices()[:1]), ("fsdp",))
    x = jax.ShapeDtypeStruct((4, 4), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 6, lambda _, x: jnp.sin(x) @ x, x))
    program = read_program(loop.lower(x).compile().as_text())
    assert 6 in program.times.values() and not collectives(program, mesh)

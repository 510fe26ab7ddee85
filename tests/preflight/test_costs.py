"""What operations of a program cost: XLA's cycles and bytes, as often as they run."""

from videodit.preflight.costs import cycles, hbm_bytes, kernel_calls
from videodit.preflight.hlo import read_program

HLO = """HloModule jit_step

%sliced (p0: f32[10,8], p1: s32[]) -> f32[1,8] {
  %p0 = f32[10,8]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  ROOT %part = f32[1,8]{1,0} dynamic-slice(%p0, %p1), dynamic_slice_sizes={1,8}
}

%written (q0: f32[10,8], q1: f32[1,8], q2: s32[]) -> f32[10,8] {
  %q0 = f32[10,8]{1,0} parameter(0)
  %q1 = f32[1,8]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  ROOT %whole = f32[10,8]{1,0} dynamic-update-slice(%q0, %q1, %q2)
}

%body (p: (s32[], f32[10,8])) -> (s32[], f32[10,8]) {
  %i = s32[] get-tuple-element(%p), index=0
  %stack = f32[10,8]{1,0} get-tuple-element(%p), index=1
  %one = f32[1,8]{1,0} fusion(%stack, %i), kind=kLoop, calls=%sliced, backend_config={"estimated_cycles":"100"}
  %made = f32[1,8]{1,0} custom-call(%one), custom_call_target="tpu_custom_call"
  %back = f32[10,8]{1,0} fusion(%stack, %made, %i), kind=kLoop, calls=%written, backend_config={"estimated_cycles":"50"}
}

%condition (p: (s32[], f32[10,8])) -> pred[] {
  %limit = s32[] constant(10)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (a: f32[10,8]) -> f32[10,8] {
  %a = f32[10,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[10,8]) tuple(%zero, %a)
  %loop = (s32[], f32[10,8]) while(%start), condition=%condition, body=%body
  %on_chip = f32[10,8]{1,0:T(8,128)S(1)} copy(%a)
  %total = f32[10,8]{1,0} add(%a, %on_chip), backend_config={"estimated_cycles":"7"}
}
"""
PROGRAM = read_program(HLO)
SLICE, STACK = 8 * 4, 10 * 8 * 4


def test_cycles_of_a_loop_count_as_often_as_it_turns():
    assert cycles(PROGRAM) == 10 * (100 + 50) + 7


def test_kernels_are_counted():
    assert kernel_calls(PROGRAM) == 10


def test_of_a_stack_that_is_sliced_and_written_in_place_only_slices_move():
    turn = (SLICE + 4 + SLICE) + 2 * SLICE + (SLICE + 4 + SLICE)  # slices read and written, and the place of each
    rest = STACK + 2 * STACK  # the copy reads what it puts on the chip; the sum reads one and writes one
    assert hbm_bytes(PROGRAM) == 10 * (turn) + rest

"""What a program for a TPU costs a device beside its collectives: cycles as XLA's own model of the chip counts them, bytes to HBM.

XLA writes the cycles that it expects of an operation beside it (`estimated_cycles`), for all but kernels of our own. Both sums count
what is inside a loop as often as the loop turns, and what lies in on-chip memory as no bytes.
"""

from collections.abc import Iterator
import dataclasses
import re

from videodit.preflight.hlo import Program, array_bytes

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r"%([\w.-]+)")
_FUSED = re.compile(r" fusion\(.*?calls=%?([\w.-]+)")
_APPLIED = re.compile(r"to_apply=%?([\w.-]+)")
# What moves no bytes: it names them, or the operations that it runs are counted for themselves.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all", "partition-id"),
    *("async-start", "async-update", "async-done", "copy-done", "send", "send-done", "recv", "recv-done"),
    *("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute"),  # these are the network's
    *("all-gather-start", "all-reduce-start", "collective-permute-start", "all-gather-done", "all-reduce-done", "collective-permute-done"),
}


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    line: str


def cycles(program: Program) -> float:
    """Of all operations but kernels and collectives, as XLA expects them; a device, a step."""
    total, inside = 0, _inside(program)
    for name, lines in program.lines.items():
        times = program.times.get(name, 0)
        if times and name not in inside:
            total += times * sum(int(match.group(1)) for match in map(_CYCLES.search, lines) if match)
    return float(total)


def kernel_calls(program: Program) -> int:
    """How often kernels of our own run, a step."""
    text = 'custom_call_target="tpu_custom_call"'
    return sum(program.times.get(name, 0) * sum(text in line for line in lines) for name, lines in program.lines.items())


def hbm_bytes(program: Program) -> float:
    """Read from and written to HBM by operations; a device, a step. Of an array that is sliced, the slice."""
    total, inside = 0.0, _inside(program)
    for name, lines in program.lines.items():
        times = program.times.get(name, 0)
        if not times or name in inside:
            continue
        found = {each.name: each for each in map(_instruction, lines) if each}
        total += times * sum(_moved(each, found, program) for each in found.values())
    return total


def _inside(program: Program) -> set[str]:
    """The computations that are parts of one operation."""
    return {match for lines in program.lines.values() for line in lines for match in (*_FUSED.findall(line), *_APPLIED.findall(line))}


def _instruction(line: str) -> Instruction | None:
    left, equals, right = line.partition(" = ")
    name = _NAME.search(left)
    if not equals or not name:
        return None
    end = _closing(right) + 1 if right.startswith("(") else right.find(" ")
    shape, rest = right[:end], right[end:].lstrip()
    operation, _, arguments = rest.partition("(")
    return Instruction(name[1], shape, operation, tuple(_NAME.findall(arguments.partition(")")[0])), line)


def _closing(text: str) -> int:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def _moved(each: Instruction, found: dict[str, Instruction], program: Program) -> float:
    if each.operation in _FREE:
        return 0.0
    size = lambda name: array_bytes(found[name].shape) if name in found else 0
    if each.operation == "dynamic-slice":
        return 2 * array_bytes(each.shape)
    if each.operation == "dynamic-update-slice":
        return 2 * size(each.operands[1])
    if each.operation == "copy-start":  # of (to, from, a counter); what lies on the chip counts as nothing
        return array_bytes(each.shape)
    fused = _FUSED.search(each.line)
    if not fused or fused.group(1) not in program.lines:
        return array_bytes(each.shape) + sum(map(size, each.operands))
    return _fusion_bytes(each, [size(name) for name in each.operands], program.lines[fused.group(1)])


def _fusion_bytes(each: Instruction, sizes: list[float], lines: list[str]) -> float:
    """Of a fused operation: arguments that it only slices count by the slices, a result that it writes in place by what is written."""
    inside = {one.name: one for one in map(_instruction, lines) if one}
    written = array_bytes(each.shape)
    total = 0.0
    for one in inside.values():
        if one.operation == "dynamic-update-slice":
            whole, part = array_bytes(one.shape), array_bytes(inside[one.operands[1]].shape) if one.operands[1] in inside else 0
            written -= max(0, min(whole, written) - part)
        if one.operation == "parameter":
            total += _read(one.name, inside, sizes[int(re.search(r"parameter\((\d+)\)", one.line)[1])])
    return total + written


def _read(name: str, inside: dict[str, Instruction], whole: float) -> float:
    """How many bytes of an argument of `whole` bytes the operations of a fusion read."""
    total = 0.0
    for user in _users(name, inside):
        if user.operation in ("dynamic-slice", "gather", "slice"):
            total += array_bytes(user.shape)
        elif user.operation == "dynamic-update-slice" and user.operands[0] == name:
            continue
        elif user.operation in ("bitcast", "get-tuple-element"):
            total += _read(user.name, inside, whole)
        else:
            return whole
    return min(total, whole)


def _users(name: str, inside: dict[str, Instruction]) -> Iterator[Instruction]:
    return (each for each in inside.values() if name in each.operands)

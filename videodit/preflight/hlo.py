"""What a compiled program's text (HLO) says of its collectives: how many bytes go along which axes of the mesh, how often a step.

Operations inside a loop count as often as the loop turns: XLA's own summary of costs counts them once.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import math
import re

from jax.sharding import Mesh
import numpy as np

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_COLLECTIVE = re.compile(r"= (\S.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|ragged-all-to-all)(-start)?\(")
_BETWEEN_SLICES = re.compile(r"= \((\S+), .*? send\(.*_xla_megascale_transfer_type=\"(\w+)\"")
_SLICES = re.compile(r"_xla_megascale_target=\"\{([\d,]*)\}")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(%?([\w.-]+)\), condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r"known_trip_count\D+(\d+)")
# Groups of devices: listed, counted off an iota, or named by axes of a mesh of its own.
_LISTED = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{} ]*\})\}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """A collective operation of a program.

    kind: as HLO has it. shape: of what it gives on one device; of several arrays, of the largest. bytes: all that it gives on one device.
    group: the devices of which one takes part with, by their places in the mesh; slices, where `dcn`: it goes between these.
    axes: of the mesh, along which the group lies, () where the mesh is not known. overlapped: it is under way while others are computed.
    times: how often it runs a step.
    """

    kind: str
    shape: tuple[int, ...]
    bytes: int
    group: tuple[int, ...]
    axes: tuple[str, ...] = ()
    dcn: bool = False
    overlapped: bool = False
    times: int = 1

    @property
    def sent(self) -> float:
        """Bytes that a device sends a step where devices form a ring, the least for all but all-to-all (Chan et al., 2007)."""
        devices = len(self.group)
        share = {
            "all-gather": (devices - 1) / devices,
            "all-to-all": (devices - 1) / devices,
            "ragged-all-to-all": (devices - 1) / devices,
            "all-reduce": 2 * (devices - 1) / devices,
            "reduce-scatter": devices - 1,  # `bytes` are those of a part
            "collective-permute": 1,
        }[self.kind]
        return self.bytes * share * self.times


@dataclasses.dataclass(frozen=True)
class Program:
    """A program's text: the lines of each computation, and how often each runs when the program runs once."""

    lines: dict[str, list[str]]
    times: dict[str, int]


def read_program(text: str) -> Program:
    """Of a compiled program's `as_text()`."""
    lines = _computations(text)
    return Program(lines, _times(lines))


def collectives(program: Program, mesh: Mesh | None = None) -> list[Collective]:
    """The collectives between several devices. With the `mesh` that the program was compiled for they know their axes."""
    found: dict[str, Collective] = {}
    for name, body in program.lines.items():
        times = program.times.get(name, 0)
        for line in body if times else ():
            read = _between_slices(line, times) or _collective(line, name, times, mesh)
            if read is None or len(read.group) == 1:
                continue
            # One that proceeds inside of several fused operations stands in each of them, on the same channel.
            channel = _CHANNEL.search(line)
            key = f"{channel[1]} {times}" if channel and read.overlapped and not read.dcn else f"line {len(found)}"
            found.setdefault(key, read)
    return list(found.values())


def _collective(line: str, computation: str, times: int, mesh: Mesh | None) -> Collective | None:
    match = _COLLECTIVE.search(line)
    if not match:
        return None
    gives, kind, start = match.groups()
    arrays = [(dtype, _sizes(sizes)) for dtype, sizes, _ in _ARRAY.findall(gives)]
    if start and len(arrays) > 1:  # a start gives its operands first; of a permute, counters last
        arrays = [each for each in arrays if each[1] or each[0] not in ("u32", "s32")]
        arrays = arrays[len(arrays) // 2 :]
    group = tuple(_group(line, 2 if mesh is None else mesh.size))
    return Collective(
        kind=kind,
        shape=max((shape for _, shape in arrays), key=math.prod, default=()),
        bytes=sum(_BYTES.get(dtype, 4) * math.prod(shape) for dtype, shape in arrays),
        group=group,
        axes=() if mesh is None else _along(group, mesh),
        overlapped=bool(start) or "async" in computation or "fused" in computation,
        times=times,
    )


def _between_slices(line: str, times: int) -> Collective | None:
    """What goes to other slices is handed to the host: its replica groups are of one slice alone."""
    match = _BETWEEN_SLICES.search(line)
    if not match:
        return None
    dtype, sizes, _ = _ARRAY.match(match.group(1)).groups()
    slices = _SLICES.search(line)
    group = tuple(int(each) for each in slices.group(1).split(",") if each) if slices else (0, 1)
    kind = {"ONE_TO_ONE": "collective-permute"}.get(match.group(2), match.group(2).lower().replace("_", "-"))
    count = _BYTES.get(dtype, 4) * math.prod(_sizes(sizes))
    share = {"reduce-scatter": 1 / len(group), "all-gather": len(group)}.get(kind, 1)  # a send tells of what it is given
    return Collective(
        kind=kind, shape=_sizes(sizes), bytes=int(count * share), group=group, axes=("data",), dcn=True, overlapped=True, times=times
    )


def array_bytes(shape: str) -> int:
    """Bytes of a shape as HLO writes it, a tuple's in sum; what lies in on-chip memory, `S(1)` and so on, counts as none."""
    return sum(_BYTES.get(dtype, 0) * math.prod(_sizes(sizes)) for dtype, sizes, layout in _ARRAY.findall(shape) if "S(" not in layout)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size)


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation by its name; "" has those before any, and the entry's name comes last."""
    found: dict[str, list[str]] = {"": []}
    name, entry = "", None
    for line in text.splitlines():
        match = _COMPUTATION.match(line)
        if match:
            name = match.group(2)
            entry = name if match.group(1) else entry
            found[name] = []
        elif line.rstrip() == "}" or line.startswith("}, execution_thread="):
            name = ""
        else:
            found[name].append(line)
    if entry:
        found[entry] = found.pop(entry)
    return found


def _times(lines: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs when the entry runs once; none that the entry does not reach. Both sides of a choice count."""
    entry = list(lines)[-1]
    calls = {name: list(_calls(name, lines)) for name in lines}
    times: dict[str, int] = {}

    def visit(name: str, count: int, above: tuple[str, ...]) -> None:
        times[name] = times.get(name, 0) + count
        for called, each in calls.get(name, ()):
            if called in lines and called not in above:
                visit(called, count * each, (*above, name))

    if entry:
        visit(entry, 1, ())
    return times


def _calls(name: str, lines: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    for line in lines[name]:
        loop = _WHILE.search(line)
        if loop:
            yield loop.group(3), _turns(line, *loop.group(1, 2), lines[name], lines)
            continue
        for called in _CALLED.findall(line):
            yield called, 1
        for branches in _BRANCHES.findall(line):
            yield from ((called.strip().lstrip("%"), 1) for called in branches.split(","))


def _turns(line: str, operand: str, condition: str, around: Sequence[str], lines: dict[str, list[str]]) -> int:
    """How often a loop turns: what XLA says, else by `i < n` in its condition and the `i` it begins with; 1 where neither is plain."""
    said = _TRIPS.search(line)
    if said:
        return int(said.group(1))
    text = "\n".join(lines.get(condition, ()))
    limits = [int(each) for each in re.findall(r"[su]32\[\]\S* constant\((\d+)\)", text)]
    place = re.search(r"get-tuple-element\(\S+\), index=(\d+)", text)
    if len(limits) != 1 or not place or "direction=LT" not in text:
        return 1
    made = next((each for each in around if re.match(rf"\s*(ROOT )?%{re.escape(operand)} = ", each)), "")
    parts = re.findall(r"%([\w.-]+)", made.rsplit(" tuple(", 1)[-1]) if " tuple(" in made else []
    start = 0
    if int(place.group(1)) < len(parts):
        begins = parts[int(place.group(1))]
        constant = re.compile(rf"%{re.escape(begins)} = [su]32\[\]\S* (?:constant|copy)\((\d+)?")
        start = next((int(match.group(1) or 0) for match in map(constant.search, around) if match), 0)
    return max(limits[0] - start, 1)


def _group(line: str, devices: int) -> list[int]:
    """One of the groups of devices that a collective runs between."""
    listed = _LISTED.search(line)
    if listed:
        groups = re.findall(r"\{([^{}]*)\}", listed.group(1))
        return max(([int(each) for each in group.split(",") if each.strip()] for group in groups), key=len)
    iota = _IOTA.search(line)
    if iota:
        shape, sides = ([int(each) for each in iota.group(part).split(",")] for part in (1, 2))
        order = [int(each) for each in iota.group(3).split(",")] if iota.group(3) else list(range(len(sides)))
        return np.arange(math.prod(sides)).reshape(sides).transpose(order).reshape(shape[0], -1)[0].tolist()
    named = _NAMED.search(line)
    if named:
        sides = {key: int(size) for key, size in re.findall(r"'([^']+)'=(\d+)", named.group(1))}
        inside = re.findall(r"'([^']+)'", named.group(2))
        ids = np.arange(math.prod(sides.values())).reshape(list(sides.values()))
        return ids[tuple(slice(None) if key in inside else 0 for key in sides)].ravel().tolist()
    pairs = _PAIRS.search(line)
    if pairs:
        return _ring([tuple(map(int, each.split(","))) for each in re.findall(r"\{(\d+,\d+)\}", pairs.group(1))])
    return list(range(devices))  # of a collective that names none: all


def _ring(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The devices that pass something on to one another, from the first that sends to another than itself."""
    following = {a: b for a, b in pairs if a != b}
    if not following:
        return [0]
    found = [next(iter(following))]
    while (after := following.get(found[-1])) is not None and after not in found:
        found.append(after)
    return found


def _along(group: Sequence[int], mesh: Mesh) -> tuple[str, ...]:
    """The axes along which a group of the mesh's devices lies. Of several slices a program knows its own alone, the first of `data`."""
    places = np.array(np.unravel_index(list(group), mesh.devices.shape))
    return tuple(name for name, at in zip(mesh.axis_names, places) if len(set(at.tolist())) > 1)


def by_axes(found: Sequence[Collective]) -> list[dict]:
    """Sums by (axes, network, kind), the most sent first: `axes`, `network` "ICI" or "DCN", `kind`; a step's
    `count`, `bytes_sent` by a device, and how many of these go beside arithmetic."""
    key = lambda each: ("+".join(each.axes), "DCN" if each.dcn else "ICI", each.kind)
    rows = []
    for (axes, network, kind), group in itertools.groupby(sorted(found, key=key), key=key):
        members = list(group)
        rows.append(
            {
                "axes": axes,
                "network": network,
                "kind": kind,
                "count": sum(each.times for each in members),
                "bytes_sent": sum(each.sent for each in members),
                "overlapped_bytes": sum(each.sent for each in members if each.overlapped),
            }
        )
    return sorted(rows, key=lambda row: -row["bytes_sent"])

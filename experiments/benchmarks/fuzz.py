#!/usr/bin/env python3
"""Mutates real media files and examines each: nothing may crash, hang or leak, and each is decoded or left out with a reason.

    python experiments/benchmarks/fuzz.py --clips DIR [--count 2000] [--seed 0] [--workers 2] [--json]

Mutations of the files of DIR that have at most 700 kB, by turns: bits flipped anywhere, the end cut off, bytes of headers overwritten
(the first kilobyte, or the length, name or first fields of a box), and the extension of another file. Each is examined as
`videodit prepare` does, and of what is kept the first and the last clip are cut out and decoded, in worker processes that are watched: a
file that takes longer than --limit seconds is a hang, a worker that dies a crash, and resident memory is taken after each file. Exits 1
where a file crashed, hung, failed after it had been kept, or raised anything but a reason.
"""

import argparse
from collections import Counter
import ctypes
import dataclasses
import gc
import json
import multiprocessing
from multiprocessing.connection import Connection, wait
from pathlib import Path
import random
import re
import sys
import tempfile
import time

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from videodit.data import media  # noqa: E402
from videodit.data.curate import CurateConfig, cut, examine  # noqa: E402

LARGEST = 700_000
KINDS = ("bits flipped", "truncated", "header edited", "extension swapped")
# Boxes of MP4, elements of Matroska, chunks of PNG, RIFF and JPEG: where one begins, a reader trusts what it reads.
MARKS = (b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stts", b"stsz", b"stco", b"avc1", b"avcC", b"elst", b"tkhd", b"mdhd")
MARKS += (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xa3", b"strf", b"idx1", b"IHDR", b"IDAT")
MARKS += (b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\x47\x40")
WARM_UP = 40  # files after which a worker has loaded and cached what it will


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one file: `decoded`, `left out` with its reason, or one of FAILURES; seconds, and resident bytes after it."""

    number: int
    file: str
    mutation: str
    end: str
    reason: str
    seconds: float
    resident: int


FAILURES = ("crash", "hang", "unreadable after it was kept", "no reason")


def sources(folder: Path) -> list[Path]:
    """The media files of a folder that are small enough, in a fixed order."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix.lower() not in (".jsonl", ".md", ".txt"))
    return [path for path in found if 0 < path.stat().st_size <= LARGEST]


def mutate(files: list[Path], number: int, seed: int) -> tuple[str, str, bytes]:
    """Returns (kind of mutation, the name the file gets, its bytes) of mutation `number`."""
    draw = random.Random(f"{seed} {number}")
    kind = KINDS[number % len(KINDS)]
    path = draw.choice(files)
    content, name = bytearray(path.read_bytes()), path.name
    if kind == "bits flipped":
        for _ in range(int(2 ** draw.uniform(0, 8))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "truncated":
        del content[int(len(content) * draw.random()) :]
    elif kind == "header edited":
        for _ in range(draw.randint(1, 8)):
            start = _header(draw, content)
            for place in range(start, min(len(content), start + draw.choice((1, 1, 2, 4, 8)))):
                content[place] = draw.choice((0, 255, 1, 127, 128, draw.randrange(256)))
    else:
        other = draw.choice([each for each in files if each.suffix.lower() != path.suffix.lower()])
        name = path.stem + other.suffix
    return kind, name, bytes(content)


def _header(draw: random.Random, content: bytes) -> int:
    mark = draw.choice(MARKS)
    found = [match.start() for match in re.finditer(re.escape(mark), content)]
    if found and draw.random() < 0.7:
        return max(0, draw.choice(found) + draw.randint(-4, 40))
    return draw.randrange(min(1024, len(content)))


def try_one(files: list[Path], number: int, seed: int, folder: Path) -> Result:
    """Makes mutation `number`, examines it, and reads what is kept of it back."""
    kind, name, content = mutate(files, number, seed)
    path = folder / f"{number}-{name}"
    path.write_bytes(content)
    begun, end, reason = time.monotonic(), "left out", ""
    try:
        examined = examine(path, CurateConfig())
        kept = [each for each in examined.candidates if each.reason is None]
        end, reason = ("decoded", "") if kept else ("left out", examined.candidates[0].reason)
        for each in {each.start: each for each in (kept[:1] + kept[-1:])}.values():
            _read_back(path, examined, each)
    except media.MediaError as error:
        end, reason = ("unreadable after it was kept" if end == "decoded" else end), str(error)
    except Exception as error:  # whatever it is, it should have been a MediaError
        end, reason = "no reason", f"{type(error).__name__}: {error}"
    path.unlink()
    return Result(number, name, kind, end, reason, time.monotonic() - begun, _resident())


def _read_back(path: Path, examined, candidate) -> None:
    content, fields = cut(path, examined.info, candidate)
    frames = sum(1 for _ in media.stream_frames(content, fps=candidate.fps, size=(32, 32)))
    if fields["format"] != "png" and abs(frames - fields["frames"]) > 1:
        raise media.MediaError(f"{frames} frames instead of {fields['frames']}")


def _resident() -> int:
    """Returns the bytes this process holds, after what it has freed is given back: else an allocator's habits would look like a leak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def _work(files: list[Path], seed: int, folder: str, ends: Connection) -> None:
    while (number := ends.recv()) is not None:
        ends.send(try_one(files, number, seed, Path(folder)))


class Worker:
    """A process that tries one file after another."""

    def __init__(self, *arguments):
        context = multiprocessing.get_context("spawn")
        self.ends, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(*arguments, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.waited, self.resident = -1, 0.0, []

    def give(self, number: int) -> None:
        self.number, self.waited = number, 0.0
        self.ends.send(number)

    def failed(self, limit: float) -> str | None:
        """What went wrong with the file it was given, if it ended or takes too long."""
        if not self.process.is_alive():
            return f"crash: the process ended with {self.process.exitcode}"
        return f"hang: more than {limit:.0f} s" if self.waited > limit else None


def run(files: list[Path], count: int, seed: int, workers: int, limit: float) -> tuple[list[Result], list[list[int]]]:
    """Tries every mutation; returns the results in order and, of each worker, resident bytes after each file."""
    results, residents, numbers = [], [], iter(range(count))
    with tempfile.TemporaryDirectory() as folder:

        def start() -> Worker | None:
            number = next(numbers, None)
            if number is None:
                return None
            worker = Worker(files, seed, folder)
            worker.give(number)
            return worker

        busy = [worker for worker in (start() for _ in range(workers)) if worker]
        while busy:
            begun = time.monotonic()
            ready = wait([worker.ends for worker in busy], timeout=1.0)
            passed = min(time.monotonic() - begun, 2.0)  # longer, and the whole machine stood still
            for worker in list(busy):
                worker.waited += passed
                result = _receive(worker, files, seed, limit, worker.ends in ready)
                if result is None:
                    continue
                results.append(result)
                worker.resident.append(result.resident)
                number = None if result.end in ("crash", "hang") else next(numbers, None)
                if number is not None:
                    worker.give(number)
                    continue
                _end(worker)
                residents.append(worker.resident)
                busy.remove(worker)
                if result.end in ("crash", "hang"):
                    busy += [other for other in (start(),) if other]
                if sys.stderr.isatty():
                    print(f"\r{len(results)} of {count}", end="", file=sys.stderr)
    return sorted(results, key=lambda each: each.number), residents


def _receive(worker: Worker, files: list[Path], seed: int, limit: float, ready: bool) -> Result | None:
    if ready:
        try:
            return worker.ends.recv()
        except EOFError:
            worker.process.join()
    failure = worker.failed(limit)
    if failure is None:
        return None
    kind, name, _ = mutate(files, worker.number, seed)
    return Result(worker.number, name, kind, failure.split(":")[0], failure, worker.waited, 0)


def _end(worker: Worker) -> None:
    if worker.process.is_alive() and worker.number >= 0:
        try:
            worker.ends.send(None)
            worker.process.join(1.0)
        except OSError:
            pass
    worker.process.kill()
    worker.process.join()


def growth(residents: list[list[int]]) -> list[dict[str, float]]:
    """Of each worker that outlived the warm-up: files, and MB after the warm-up, at the end, and at most between files."""
    found = []
    for all_of_one in residents:
        if len(all_of_one) < 2 * WARM_UP:
            continue
        after, end = (sorted(part)[len(part) // 2] for part in (all_of_one[WARM_UP : 2 * WARM_UP], all_of_one[-WARM_UP:]))
        most = max(all_of_one)
        found.append({"files": len(all_of_one), "warm": after / 1e6, "end": end / 1e6, "most": most / 1e6})
    return found


def short(reason: str) -> str:
    """A reason without its numbers and the names in it, to count by."""
    reason = re.sub(r"['\"<(].*?['\">)]", "...", reason)
    return re.sub(r"\d+(\.\d+)?", "N", reason)


def report(results: list[Result], residents: list[list[int]], seconds: float) -> dict:
    """What the run found, as JSON values."""
    return {
        "files": len(results),
        "seconds": seconds,
        "ends": dict(Counter(each.end for each in results).most_common()),
        "by_mutation": {kind: dict(Counter(each.end for each in results if each.mutation == kind)) for kind in KINDS},
        "reasons": dict(Counter(short(each.reason) for each in results if each.end != "decoded").most_common()),
        "slowest_seconds": max(each.seconds for each in results),
        "resident_mb": growth(residents),
        "failures": [dataclasses.asdict(each) for each in results if each.end in FAILURES],
    }


def show(found: dict) -> None:
    """Prints the report as tables."""
    print(f"{found['files']:,} files in {found['seconds']:.0f} s, the slowest {found['slowest_seconds']:.1f} s\n")
    print("| mutation | decoded | left out | failed |\n| --- | --- | --- | --- |")
    for kind, ends in found["by_mutation"].items():
        print(f"| {kind} | {ends.get('decoded', 0)} | {ends.get('left out', 0)} | {sum(ends.get(each, 0) for each in FAILURES)} |")
    print("\n| files | reason |\n| --- | --- |")
    for reason, count in found["reasons"].items():
        print(f"| {count} | {reason} |")
    print("\n| worker's files | resident MB after the warm-up | at the end | at most |\n| --- | --- | --- | --- |")
    for each in found["resident_mb"]:
        print(f"| {each['files']} | {each['warm']:.0f} | {each['end']:.0f} | {each['most']:.0f} |")
    for each in found["failures"]:
        print(f"\nFAILED {each['number']} {each['file']} ({each['mutation']}): {each['end']}: {each['reason']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a file may take")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    begun = time.monotonic()
    results, residents = run(sources(arguments.clips), arguments.count, arguments.seed, arguments.workers, arguments.limit)
    found = report(results, residents, time.monotonic() - begun)
    print(json.dumps(found, indent=1)) if arguments.json else show(found)
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

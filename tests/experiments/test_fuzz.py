"""Damaged files neither crash nor hang: each is decoded or left out with a reason, and the benchmark that says so notices failures."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fuzz(clips, *arguments):
    command = [sys.executable, str(ROOT / "experiments/benchmarks/fuzz.py"), "--clips", str(clips), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


def test_mutated_files_are_decoded_or_left_out_with_a_reason(clips):
    status, found = fuzz(clips, "--count", "60", "--workers", "1")
    assert status == 0 and found["failures"] == []
    assert set(found["ends"]) == {"decoded", "left out"} and sum(found["ends"].values()) == 60
    assert "" not in found["reasons"] and sum(found["reasons"].values()) == found["ends"]["left out"]


def test_a_file_that_takes_too_long_is_a_failure_and_does_not_stop_the_run(clips):
    status, found = fuzz(clips, "--count", "2", "--workers", "2", "--limit", "0")
    assert status == 1 and {each["end"] for each in found["failures"]} == {"hang"} and found["files"] == 2

"""Fixtures that tests of several rooms share."""

import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def clips() -> pathlib.Path:
    """The folder of real test clips: `$VIDEODIT_TEST_CLIPS`, or `shared/clips` beside the repository."""
    root = pathlib.Path(__file__).resolve().parents[1]
    folder = pathlib.Path(os.environ.get("VIDEODIT_TEST_CLIPS") or root.parent / "shared" / "clips")
    if not (folder / "manifest.jsonl").exists():
        pytest.skip(f"no test clips at {folder}: set VIDEODIT_TEST_CLIPS to their folder")
    return folder

"""Workdirs on gs:// are as those on a disk."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

CASES = pathlib.Path(__file__).with_name("on_gcs.py")
LACKS = [name for name in ("gcp_storage_emulator", "gcsfs", "google.cloud.storage") if importlib.util.find_spec(name.split(".")[0]) is None]


@pytest.mark.skipif(bool(LACKS), reason=f"not installed: {', '.join(LACKS)}; pip install 'videodit[dev]'")
def test_checkpoints_and_training_on_an_emulator_of_google_cloud_storage():
    # A process that has used tensorstore before does not read what names the emulator again.
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)], capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:]

"""The container file is made of what is there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "launch/Containerfile"
LINES = FILE.read_text().replace("\\\n", " ").splitlines()


def test_what_it_copies_is_there_and_not_ignored():
    kept = {line[1:] for line in FILE.with_name("Containerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in LINES if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert copied == kept and all((ROOT / name).exists() for name in copied)


def test_it_installs_an_extra_for_tpus_and_one_for_gpus():
    assert any(re.match(r'RUN .*pip install .*"\.\[\$\{EXTRA\},gcs\]"', line) for line in LINES)
    setup = (ROOT / "setup.py").read_text()
    assert '"tpu": ["jax[tpu]' in setup and '"cuda": ["jax[cuda12]' in setup and "ARG EXTRA=tpu" in LINES
    # an argument given before FROM is not seen after it
    assert LINES.index("ARG EXTRA=tpu") > next(at for at, line in enumerate(LINES) if line.startswith("FROM "))

"""Fixtures that tests of several rooms share."""

import os
import pathlib
import tempfile

import pytest


def pytest_configure(config: pytest.Config):
    """Tests and the processes that they start compile a program once between them, with little optimisation; nothing outlives the run."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="videodit-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # tests compile for longer than they compute


@pytest.fixture(scope="session")
def clips() -> pathlib.Path:
    """The folder of real test clips: `$VIDEODIT_TEST_CLIPS`, or `shared/clips` beside the repository."""
    root = pathlib.Path(__file__).resolve().parents[1]
    folder = pathlib.Path(os.environ.get("VIDEODIT_TEST_CLIPS") or root.parent / "shared" / "clips")
    if not (folder / "manifest.jsonl").exists():
        pytest.skip(f"no test clips at {folder}: set VIDEODIT_TEST_CLIPS to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny():
    """`tiny("vae", train={"steps": 4})` is the experiment of tests/tiny.py with fields of its sections replaced."""
    from videodit.core.config import load
    from videodit.training.config import read_experiment

    def make(variant="dit", **sections):
        config = load(f"{pathlib.Path(__file__).with_name('tiny.py')}:{variant}")
        config.update(sections)
        return read_experiment(config)

    return make


@pytest.fixture(scope="session")
def tiny_dataset(tiny, tmp_path_factory):
    """A workdir with `dataset`. Tests read it and the two below, which share it; what writes goes to a workdir of its own."""
    from videodit.data.prepare import prepare

    workdir = tmp_path_factory.mktemp("tiny")
    prepare(tiny(data={"workers": 1}).data, workdir / "dataset")
    return workdir


@pytest.fixture(scope="session")
def tiny_latents(tiny, tiny_dataset):
    """The workdir with `vae` and `latents` too."""
    from videodit.training.encode import encode
    from videodit.training.loop import train

    data = {"path": str(tiny_dataset / "dataset")}
    train(tiny("vae", data=data), tiny_dataset / "vae")
    encode(tiny(data=data), tiny_dataset)
    return tiny_dataset


@pytest.fixture(scope="session")
def tiny_job(tiny, tiny_latents):
    """The workdir of the whole job, the transformer trained too."""
    from videodit.training.loop import train

    train(tiny(data={"path": str(tiny_latents / "dataset")}), tiny_latents)
    return tiny_latents

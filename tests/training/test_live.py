"""Training reads clips as it reads latents: the same samples in the same rows, encoded on the way."""

import shutil

import numpy as np
import pytest

from videodit.core.errors import UserError
from videodit.data.latents import LatentDataset
from videodit.training.encode import encode
from videodit.training.jobs import make_job


@pytest.fixture(scope="module")
def live(tiny, tiny_latents, tmp_path_factory):
    """The config of a job without stored latents, and its workdir."""
    workdir = tmp_path_factory.mktemp("live")
    config = tiny(data={"path": str(tiny_latents / "dataset")}, latents={"vae": str(tiny_latents / "vae"), "stored": False})
    encode(config, workdir)
    return config, workdir


def test_nothing_is_stored_but_what_training_is_planned_from(live, tiny_latents):
    latents, wanted = LatentDataset(live[1] / "latents"), LatentDataset(tiny_latents / "latents")
    assert not latents.stored and wanted.stored
    assert {latents.read(i)["latents"] for i in range(len(latents))} == {b""}
    np.testing.assert_array_equal(latents.sizes, wanted.sizes)


def test_batches_are_those_of_stored_latents(live, tiny, tiny_latents):
    stored = make_job(tiny(data={"path": str(tiny_latents / "dataset")}), tiny_latents).batches
    made = make_job(*live).batches
    for _ in range(4):
        found, wanted = next(made), next(stored)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            if name == "patches":  # encoded one by one, and not in batches
                np.testing.assert_allclose(found[name], array, atol=1e-4)
            else:
                np.testing.assert_array_equal(found[name], array)


def test_another_vae_is_refused(live, tiny, tiny_latents, tmp_path):
    shutil.copytree(tiny_latents / "vae", tmp_path / "vae")
    steps = sorted((path for path in (tmp_path / "vae" / "checkpoints").iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    shutil.rmtree(steps[-1])
    other = tiny(data={"path": str(tiny_latents / "dataset")}, latents={"vae": str(tmp_path / "vae")})
    with pytest.raises(UserError, match="was made with VAE"):
        make_job(other, live[1])

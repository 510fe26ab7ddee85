"""What `videodit export` writes is the run's averaged weights, and it writes over nothing."""

import jax
import numpy as np
import pytest

from videodit import cli
from videodit.core.errors import UserError
from videodit.models.dit.interchange import import_dit
from videodit.training.checkpoints import restore_weights
from videodit.training.loop import train


def test_a_trained_transformer_leaves_as_it_is(tiny_job, tmp_path, capsys):
    place = tmp_path / "exported"
    assert cli.main(["export", str(place), f"--workdir={tiny_job}"]) == 0
    assert "of step 16" in capsys.readouterr().out
    model, params = import_dit(place)
    assert model.config.width == 16
    jax.tree.map(np.testing.assert_array_equal, params, jax.tree.map(np.asarray, restore_weights(tiny_job)[0]["ema"]))
    assert cli.main(["export", str(place), f"--workdir={tiny_job}"]) == 2
    assert "already holds" in capsys.readouterr().err


def test_a_vae_is_not_exported_as_a_transformer(tiny_job, tmp_path, capsys):
    assert cli.main(["export", str(tmp_path), f"--workdir={tiny_job / 'vae'}"]) == 2
    assert "holds a vae: expected a transformer's workdir" in capsys.readouterr().err


def test_a_run_begins_with_what_another_has_exported(tiny, tiny_job, tmp_path):
    place, workdir = tmp_path / "exported", tmp_path / "run"
    assert cli.main(["export", str(place), f"--workdir={tiny_job}"]) == 0
    still = {
        "data": {"path": str(tiny_job / "dataset")},
        "latents": {"path": str(tiny_job / "latents"), "vae": str(tiny_job / "vae")},
        "optimizer": {"learning_rate": 0.0},
        "train": {"steps": 1},
        "start": {"checkpoint": str(place)},
    }
    train(tiny(**still), workdir)
    exported = import_dit(place)[1]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, restore_weights(workdir)[0]["ema"]), exported)
    with pytest.raises(UserError, match="of another form: its width is 16, and the config's 32"):
        train(tiny(**still, dit={"width": 32}), tmp_path / "other")
    with pytest.raises(UserError, match="start.take is 'model', expected 'weights': .* holds nothing else"):
        train(tiny(**still | {"start": {"checkpoint": str(place), "take": "model"}}), tmp_path / "other")

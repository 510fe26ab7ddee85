"""What `videodit export` writes is the run's averaged weights, and it writes over nothing."""

import jax
import numpy as np

from videodit import cli
from videodit.models.dit.interchange import import_dit
from videodit.training.checkpoints import restore_weights


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

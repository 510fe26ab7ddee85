"""Two runs can be told equal by their fingerprint, and what inspect says is what the files hold."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from videodit import cli
from videodit.core import config
from videodit.data import media
from videodit.data.dataset import ClipDataset
from videodit.models.text.source import planned_embedder
from videodit.training import checkpoint_contents, inspect
from videodit.training.inspect_model import activation_bytes
from videodit.training.jobs import dit_model

PARAMETERS = {
    "blocks": [{"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}, {"kernel": np.ones((3, 4), np.float32)}],
    "bias": np.asarray(jnp.ones(3, jnp.bfloat16)),
}


def save(workdir, step, parameters):
    """Writes a checkpoint of the layout that the training loop writes."""
    state = {"params": parameters, "opt_state": optax.adamw(1e-3).init(parameters), "ema": parameters, "step": np.int32(step)}
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave({"next_index": 8 * step})))
        manager.wait_until_finished()
    return workdir / "checkpoints" / str(step)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    config.write_config(workdir, {"train": {"steps": 10}})
    (workdir / "metrics").mkdir()
    (workdir / "metrics" / "metrics.jsonl").write_text('{"step": 4, "loss": 0.5}\n{"step": 5, "lo')
    save(workdir, 2, {**PARAMETERS, "bias": PARAMETERS["bias"] * 0})
    save(workdir, 10, PARAMETERS)
    return workdir


def test_fingerprint_is_of_the_weights_alone(workdir, tmp_path):
    newest = checkpoint_contents.fingerprint_weights(workdir / "checkpoints" / "10")
    assert newest == checkpoint_contents.fingerprint_weights(save(tmp_path, 3, PARAMETERS))
    assert newest != checkpoint_contents.fingerprint_weights(workdir / "checkpoints" / "2")


def test_fingerprint_reads_large_models_in_parts(workdir, monkeypatch):
    whole = checkpoint_contents.fingerprint_weights(workdir / "checkpoints" / "10")
    monkeypatch.setattr(checkpoint_contents, "_GROUP_BYTES", 50)
    assert checkpoint_contents.fingerprint_weights(workdir / "checkpoints" / "10") == whole


@pytest.mark.parametrize(
    "other",
    [
        [("b", np.float32([1, 2]))],
        [("a", np.float32([2, 1]))],
        [("a", np.float64([1, 2]))],
        [("a", np.float32([[1, 2]]))],
        [("a", np.float32([1])), ("a", np.float32([2]))],
    ],
)
def test_name_value_dtype_shape_and_split_all_count(other):
    assert checkpoint_contents.fingerprint(other) != checkpoint_contents.fingerprint([("a", np.float32([1, 2]))])


def test_fingerprint_does_not_depend_on_memory_layout_or_byte_order():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = checkpoint_contents.fingerprint([("a", array)])
    assert checkpoint_contents.fingerprint([("a", np.asfortranarray(array))]) == same
    assert checkpoint_contents.fingerprint([("a", array.astype(">f4"))]) == same


def test_workdir_shows_its_newest_checkpoint(workdir):
    found = inspect.inspect(workdir)
    assert (found["kind"], found["step"], found["checkpoints"], found["parameters"]) == ("workdir", 10, [2, 10], 27)
    assert found["fingerprint"] == checkpoint_contents.fingerprint_weights(workdir / "checkpoints" / "10")
    assert found["data_position"] == {"next_index": 80}
    assert found["config"] == {"train": {"steps": 10}}
    assert found["metrics"] == {"step": 4, "loss": 0.5}


def test_workdir_without_a_checkpoint_has_no_fingerprint(tmp_path):
    config.write_config(tmp_path, {"n": 1})
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)  # begun, and killed
    found = inspect.inspect(tmp_path)
    assert (found["step"], found["fingerprint"]) == (None, None)
    assert "no checkpoint yet" in inspect.to_text(found)


def test_checkpoint_lists_every_array(workdir):
    found = inspect.inspect(workdir / "checkpoints" / "10")
    arrays = {each["name"]: each for each in found["arrays"]}
    wanted = {"name": "params/blocks/0/kernel", "shape": [3, 4], "dtype": "float32", "bytes": 48, "sharding": ""}
    assert arrays["params/blocks/0/kernel"] == wanted
    assert arrays["params/bias"]["dtype"] == "bfloat16" and "opt_state/0/mu/bias" in arrays
    text = inspect.to_text(found)
    assert "kernel  float32 3x4  48 bytes" in text and "step           10" in text


def test_dataset_shows_what_it_holds_and_what_was_left_out(tmp_path):
    (tmp_path / "metadata.json").write_text('{"source": "files"}')
    columns = dict(
        key=np.array(["a", "b", "c"]),
        frames=np.array([8, 8, 1]),
        height=np.array([36, 36, 64]),
        width=np.array([64, 64, 36]),
        fps=np.float32([8, 4, 1]),
    )
    np.savez(tmp_path / "index-train.npz", **columns)
    (tmp_path / "rejects.jsonl").write_text('{"file": "x.mp4", "reason": "cut short"}\n' * 2)
    found = inspect.inspect(tmp_path)
    train = found["splits"]["train"]
    assert (found["kind"], found["complete"], train["clips"], train["images"], train["seconds"]) == ("dataset", False, 3, 1, 3.0)
    assert train["sizes"] == [{"height": 36, "width": 64, "clips": 2}, {"height": 64, "width": 36, "clips": 1}]
    assert found["rejects"] == {"cut short": 2}
    text = inspect.to_text(found)
    assert "64x36: 2" in text and "cut short" in text and "unfinished" in text


# -- a record, and what becomes of sizes


def test_a_records_frames_become_a_picture_beside_the_dataset(tiny_dataset, tmp_path, capsys):
    dataset = ClipDataset(tiny_dataset / "dataset")
    number = int(np.flatnonzero(dataset.sizes[:, 0] == 9)[0])
    output = tmp_path / "frames.png"
    assert cli.main(["inspect", str(tiny_dataset / "dataset"), f"--record={dataset.keys[number]}", f"--output={output}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["number"], found["key"], found["frames"]) == ("record", number, dataset.keys[number], 9)
    shown = media.decode(output)[0]
    height, width = dataset.sizes[number, 1:]
    assert shown.shape[0] >= 2 * height and shown.shape[1] >= 4 * width  # two strips of four
    first = media.decode(dataset[number]["media"], frames=1)[0]
    assert (shown[:height, :width] == first).all()


def test_a_record_is_found_by_number_too_or_named(tiny_dataset, tmp_path, capsys):
    assert cli.main(["inspect", f"--workdir={tiny_dataset}", "--record=3", f"--output={tmp_path / 'a.png'}"]) == 0
    assert "number         3" in capsys.readouterr().out
    assert cli.main(["inspect", f"--workdir={tiny_dataset}", "--record=worlds-train-3-9999"]) == 2
    assert "expected a number below 24 or a key" in capsys.readouterr().err


def test_a_config_shows_what_becomes_of_every_size(tiny_dataset, tmp_path, capsys):
    config_file = pathlib.Path(__file__).parents[1] / "tiny.py"
    output = tmp_path / "sizes.png"
    place = [str(tiny_dataset / "dataset"), f"--config={config_file}:dit", f"--output={output}"]
    assert cli.main(["inspect", *place, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(row["clips"] for row in found["sizes"]) == 24 and {row["pixels_kept"] for row in found["sizes"]} == {1.0}
    assert found["vae_training_shapes"] and found["encode_shapes"] == len({(n, h, w) for n, h, w in ClipDataset(place[0]).sizes.tolist()})
    assert 0.5 < found["real_token_share"] <= 1
    assert media.decode(output)[0].std() > 10
    assert cli.main(["inspect", *place, "--config.latents.policy.max_tokens=2"]) == 0
    text = capsys.readouterr().out
    assert "24x16" in text and "VAE training" in text and str(output) in text


def test_a_row_that_is_too_short_is_said(tiny_dataset, tiny):
    found = inspect.inspect_sizes(tiny(packing={"length": 16}), tiny_dataset / "dataset", tiny_dataset / "sizes.png")
    assert found["real_token_share"] is None and "raise packing.length" in inspect.to_text(found)


def test_the_verb_prints_one_line_of_json(workdir, capsys):
    assert cli.main(["inspect", f"--workdir={workdir}", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert {"step", "fingerprint"} <= json.loads(line).keys()


def test_a_folder_of_something_else_is_named(tmp_path, capsys):
    assert cli.main(["inspect", str(tmp_path)]) == 2
    assert "holds no dataset, workdir or checkpoint" in capsys.readouterr().err


# -- a config's model


def test_a_config_alone_shows_its_transformers_parameters_flops_and_memory(tiny, capsys):
    config_file = pathlib.Path(__file__).parents[1] / "tiny.py"
    assert cli.main(["inspect", f"--config={config_file}:dit", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = dit_model(tiny(), 6, planned_embedder(tiny().text))
    params = jax.eval_shape(model.init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(found["parameters"].values()) == count
    assert found["bytes"]["parameters"] == 4 * count and 8 * count <= found["bytes"]["optimizer"] <= 8 * count + 100
    whole, short = found["flops_per_token"]["whole_row"], found["flops_per_token"]["64th_of_row"]
    assert whole - short == pytest.approx(3 * 4 * 16 * 2 * 48 * 63 / 64)  # width 16, 2 layers, rows of 48
    assert cli.main(["inspect", f"--config={config_file}:dit"]) == 0
    assert f"{count:,}" in capsys.readouterr().out


def test_remat_keeps_less_for_the_backward_pass(tiny):
    kept = {}
    for remat in ("none", "named", "full"):
        config = tiny(dit={"remat": remat, "depth": 8})
        model = dit_model(config, 6, planned_embedder(config.text))
        kept[remat] = activation_bytes(model, jax.eval_shape(model.init, jax.random.key(0)), 256, (64,))
    assert kept["none"] > 1.5 * kept["named"] and kept["named"] > 1.5 * kept["full"]
    assert kept["full"] >= 8 * 256 * 16 * 4  # a layer's input


def test_inspect_asks_for_a_place_or_a_config(capsys):
    assert cli.main(["inspect"]) == 2
    assert "or --config alone" in capsys.readouterr().err

"""Run by test_gcs.py in a process of its own: checkpoints and training on gs://, against an emulator of Google Cloud Storage on a loopback
port."""

import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

from etils import epath
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.record_writer import GCSRecordWriter
import tensorstore

from videodit.core.errors import RestartAsked
from videodit.training import checkpoint_contents, inspect, loop
from videodit.training.checkpoints import Checkpoints, restore_weights
from videodit.training.jobs import Job

# The emulator leaves out the header by which tensorstore knows the generation of what it read and is to replace.
EMULATOR = """
import sys
from gcp_storage_emulator.handlers import objects

def download(request, response, storage, *args, plain=objects.download, **kwargs):
    plain(request, response, storage, *args, **kwargs)
    name = request.params["bucket_name"], request.params["object_id"]
    if response.status < 300:
        response["x-goog-generation"] = storage.get_file_obj(*name)["generation"]

objects.download = download
from gcp_storage_emulator.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """`gs://NAME` of an emulator that is empty at first."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    place, name = f"http://127.0.0.1:{port}", f"bucket-{port}"
    command = [sys.executable, "-c", EMULATOR, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
    said = open(tmp_path_factory.mktemp("emulator") / "log", "w")
    server = subprocess.Popen([*command, f"--default-bucket={name}"], stdout=said, stderr=said)
    patch = pytest.MonkeyPatch()
    for variable, value in {
        "STORAGE_EMULATOR_HOST": place,  # etils and orbax, by gcsfs and google-cloud-storage
        "TENSORSTORE_GCS_HTTP_URL": place,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # tensorstore would look for a token of its own
        "GOOGLE_CLOUD_PROJECT": "test",
        "NO_GCE_CHECK": "true",  # no looking for a metadata server
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }.items():
        patch.setenv(variable, value)
    # Moving a folder asks for objects by the names of folders; the emulator has the error of a server for that, which is tried again.
    patch.setattr("gcsfs.retry.is_retriable", lambda error: False)
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{place}/storage/v1/b/{name}", timeout=5).read()
            break
        except OSError:
            time.sleep(0.2)
    yield epath.Path(f"gs://{name}")
    assert not pathlib.Path("gs:").exists()  # no gs:// path was taken for a local one
    del GCSRecordWriter.__del__  # TensorBoard's writers write once more when they go, and would try for minutes: the server is gone by then
    patch.undo()
    server.terminate()
    server.wait()
    said.close()


def test_a_file_that_was_read_is_written_anew(bucket):
    """As a manifest is, where one checkpoint takes two commits."""
    spec = {"driver": "ocdbt", "base": f"gs://{bucket.name}/commits/"}
    for key in "ab":
        tensorstore.KvStore.open(spec).result()[key] = b"value"
    assert tensorstore.KvStore.open(spec).result().list().result() == [b"a", b"b"]


def state_at(step):
    params = {"kernel": jax.random.normal(jax.random.key(step), (32, 16)), "bias": jnp.full(3, step, jnp.bfloat16)}
    return {"params": params, "ema": params, "statistics": {}, "step": jnp.asarray(step, jnp.int32)}


def test_checkpoints_come_back_and_old_ones_go(bucket):
    workdir = bucket / "saved"
    checkpoints = Checkpoints(workdir, keep=2)
    for step in (3, 5, 7):
        checkpoints.save(state_at(step), {"next_index": step})
    checkpoints.close()
    assert checkpoint_contents.finished_steps(workdir) == [5, 7]
    state, position = Checkpoints(workdir).restore(state_at(0))
    jax.tree.map(np.testing.assert_array_equal, state, state_at(7))
    assert position == {"next_index": 7} and restore_weights(workdir)[1] == 7
    found = inspect.inspect(workdir / "checkpoints" / "7")
    assert found["step"] == 7 and found["data_position"] == {"next_index": 7}


def test_a_damaged_newest_one_is_set_aside(bucket):
    workdir, said = bucket / "damaged", []
    checkpoints = Checkpoints(workdir)
    for step in (3, 5):
        checkpoints.save(state_at(step), {"next_index": step})
    checkpoints.close()
    (workdir / "checkpoints" / "5" / "state" / "manifest.ocdbt").unlink()
    checkpoints = Checkpoints(workdir, tell=said.append)
    assert checkpoints.restore(state_at(0))[1] == {"next_index": 3}
    assert "checkpoint 5 is damaged" in said[-1] and (workdir / "checkpoints" / "5.damaged" / "state" / "_METADATA").exists()
    checkpoints.save(state_at(5), {"next_index": 5})
    checkpoints.close()
    assert Checkpoints(workdir).restore(state_at(0))[1] == {"next_index": 5}


class Mean:
    """Fits a vector to noise."""

    axes = {}

    def init(self, key):
        return {"kernel": jax.random.normal(key, (4,))}

    def statistics(self):
        return {}

    def loss(self, params, batch, key):
        return jnp.square(params["kernel"] - batch["x"]).mean(), ({}, {})


class Until:
    """Batches that tell the run to stop at number `count`."""

    def __init__(self, count):
        draw = lambda n: {"x": np.random.default_rng(n).normal(size=4).astype(np.float32)}
        self.batches = iter(grain.MapDataset.range(1000).map(draw).to_iter_dataset())
        self.left, self.get_state, self.set_state = count, self.batches.get_state, self.batches.set_state

    def __next__(self):
        self.left -= 1
        return next(self.batches)


def test_a_run_stops_goes_on_and_ends_as_an_unbroken_one(bucket, tiny, monkeypatch):
    monkeypatch.setattr(loop, "matmul_flops_per_second", lambda: 1.0)

    def train(workdir, count=10**9):
        batches = Until(count)
        job = Job(
            model=Mean(),
            batches=batches,
            unit="tokens",
            work=lambda batch: {"tokens": 1.0, "slots": 1.0, "flops": 1.0},
            device_features=("x",),
            pictures=lambda state, to: None,
        )
        monkeypatch.setattr(loop, "make_job", lambda *_: job)
        monkeypatch.setattr(loop.StopSignal, "asked", lambda self: batches.left <= 0)
        loop.train(tiny(train={"steps": 6, "log_every": 2, "save_every": 4, "sample_every": 6}), workdir)

    train(bucket / "whole")
    with pytest.raises(RestartAsked, match="saved step 3 of 6"):
        train(bucket / "stopped", 3)
    train(bucket / "stopped")
    found = [Checkpoints(bucket / name) for name in ("stopped", "whole")]
    (stopped, at), (whole, wanted) = (each.restore(loop_state()) for each in found)
    jax.tree.map(np.testing.assert_array_equal, stopped, whole)
    assert at == wanted and int(whole["step"]) == 6
    assert json.loads((bucket / "stopped" / "config.json").read_text())["train"]["steps"] == 6


def loop_state():
    """What `train` saves, in its shapes."""
    from videodit.training.config import OptimizerConfig
    from videodit.training.state import init_state, make_optimizer

    return init_state(Mean(), make_optimizer(OptimizerConfig(), 6), 0)

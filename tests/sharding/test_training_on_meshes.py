"""A job trains to the same losses on one device and on eight, however the eight are laid out."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from videodit.core.config import write_config

SCRIPT = pathlib.Path(__file__).with_name("train_on_meshes.py")
LAYOUTS = {  # sections of the config that are replaced
    "dit": {
        "data": {"mesh": {"data": 8}},
        "fsdp, in parts": {"mesh": {"fsdp": 4, "context": 2}, "train": {"accumulate": 2}},
        "tensor": {"mesh": {"data": 2, "fsdp": 2, "tensor": 2}},
        # tests/attention/test_on_meshes.py has the other ways of attention to share a row
        "ring": {"mesh": {"fsdp": 2, "tensor": 2, "context": 2}, "dit": {"attention": "blocked", "context_attention": "ring"}},
    },
    "vae": {
        "data": {"mesh": {"data": 8}},
        "fsdp and width": {"mesh": {"data": 2, "fsdp": 2, "tensor": 2}},
        "height and width": {"mesh": {"data": 2, "tensor": 2, "context": 2}},
    },
}


def train(config, scratch, devices, layouts):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    write_config(scratch, config)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(scratch / "config.json"), str(scratch / f"on-{devices}"), json.dumps(list(layouts.items()))],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == devices
    return {name: np.asarray(losses) for name, losses in found["losses"].items()}


RUNS = [("dit", "adamw", list(LAYOUTS["dit"])), ("dit", "muon", ["tensor"]), ("vae", "muon", list(LAYOUTS["vae"]))]


@pytest.mark.parametrize("variant, optimizer, layouts", RUNS)
def test_losses_agree_on_one_device_and_on_eight(tiny, tiny_latents, tmp_path, variant, optimizer, layouts):
    config = tiny(
        variant,
        data={"path": str(tiny_latents / "dataset")},
        latents={"path": str(tiny_latents / "latents")},
        train={"steps": 3, "log_every": 1, "save_every": 3, "sample_every": 3},
        packing={"rows": 8},
        vae_training={"stages": [{"policy": {"max_frames": 5}, "batch": 8, "max_buckets": 2}]},
        # Small steps, and an eps that keeps Adam from making a gradient of nothing but rounding as large as any other.
        optimizer={"name": optimizer, "learning_rate": 3e-4, "eps": 1e-3},
    )
    (alone,) = train(config, tmp_path, 1, {"alone": {}}).values()
    assert len(alone) == 3 and len(set(alone.tolist())) == 3
    for name, losses in train(config, tmp_path, 8, {name: LAYOUTS[variant][name] for name in layouts}).items():
        np.testing.assert_allclose(losses, alone, rtol=1e-5, err_msg=name)

"""A restart reads what the first start has compiled."""

import json
import os
import pathlib
import subprocess
import sys

from videodit.core.config import write_config

TRAIN = """
import collections, json, pathlib, sys
import jax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name]))
import jax.numpy as jnp
jax.jit(lambda x: x + 1)(jnp.ones(3))  # something is compiled before there is a cache
from test_loop import toy_job
from videodit.core.errors import RestartAsked
from videodit.training import loop
from videodit.training.config import read_experiment
loop.StopSignal.asked = lambda self: True  # after each process's first step
loop.make_job = lambda *_: toy_job()
try:
    loop.train(read_experiment(json.loads(pathlib.Path(sys.argv[1]).read_text())), sys.argv[2])
except RestartAsked:
    pass
print(json.dumps({name.rsplit("/")[-1]: count for name, count in events.items() if "compilation_cache" in name}))
"""


def test_the_step_of_a_restart_is_read_and_not_compiled(tiny, tmp_path):
    write_config(tmp_path, tiny())
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # the toy's programs compile in no time
        "PYTHONPATH": os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", TRAIN, str(tmp_path / "config.json"), str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found[0].get("cache_hits", 0) == 0 and found[0]["cache_misses"] > 0 and list((tmp_path / "run" / ".jax_cache").iterdir())
    assert found[1]["cache_hits"] > 0 and found[1].get("cache_misses", 0) == 0

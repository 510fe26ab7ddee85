"""A process joins others where a launcher says so, and is alone otherwise."""

import json
import os
import socket
import subprocess
import sys

import pytest

from videodit.core import processes
from videodit.core.errors import UserError

PROGRAM = """
import json
from videodit.core.processes import join_processes
join_processes()
import jax
print(json.dumps([jax.process_index(), jax.process_count(), jax.device_count()]))
"""


def start(told):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **told}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)


def test_it_is_alone_where_nothing_is_said(monkeypatch):
    monkeypatch.delenv(processes.PROCESSES, raising=False)
    assert processes.join_processes() is None


def test_two_find_each_other():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    running = [start({processes.PROCESSES: f"{index}/2@127.0.0.1:{port}"}) for index in range(2)]
    said = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in running]
    assert said == [[0, 2, 2], [1, 2, 2]]


@pytest.mark.parametrize("told", ["yes", "2/2@127.0.0.1:80", "0/2", "0/2@127.0.0.1"])
def test_what_is_not_understood_is_named(monkeypatch, told):
    monkeypatch.setenv(processes.PROCESSES, told)
    with pytest.raises(UserError, match="VIDEODIT_PROCESSES is '.*expected auto or INDEX/COUNT@HOST:PORT"):
        processes.join_processes()

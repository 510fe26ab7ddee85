"""TPU VMs, with a gcloud that stands for the cloud: what is asked of it, and what becomes of runs that are preempted."""

import os
import subprocess

import pytest

from launch import tpu_vm
from videodit.core.errors import RESTART_STATUS, UserError

# Notes its arguments. `states` are those that `describe` says, one a call, the last for ever, and none before a create or after a delete;
# `ends` are the statuses of the runs, and after the word "gone" the TPUs are suspended; `steps` the newest checkpoints when it is asked.
GCLOUD = """#!/usr/bin/env bash
cd "$(dirname "$0")"
first() { local line; line=$(head -n 1 "$1"); [ "$(wc -l <"$1")" -le 1 ] || sed -i 1d "$1"; echo "$line"; }
echo "$*" >>calls
case "$*" in
  *" create "*) cp plan states ;;
  *" delete "*) rm states ;;
  *" describe "*)
    [ -e states ] || { echo "ERROR: NOT_FOUND: no such resource" >&2; exit 1; }
    first states ;;
  *"docker logs"*)
    read -r status gone <<<"$(first ends)"
    [ -z "$gone" ] || echo SUSPENDED >states
    exit "$status" ;;
  "storage ls "*) echo "$4"; echo "gs://bucket/run/checkpoints/$(first steps)/" ;;
esac
"""


@pytest.fixture
def cloud(tmp_path, asked, monkeypatch):
    """`cloud(ends, steps)` runs a job to its end; returns its status and the calls of gcloud, each by its third word on or so."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "gcloud").write_text(GCLOUD)
    (tmp_path / "gcloud").chmod(0o755)

    def run(ends, steps=(1, 2, 3, 4, 5, 6), states=("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"), more=()):
        for name, lines in (("ends", ends), ("steps", steps), ("plan", states)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        status = tpu_vm.run(*asked("tpu-vm", *more), poll_seconds=0.01)
        calls = [line for line in (tmp_path / "calls").read_text().splitlines() if " describe " not in line and "storage" not in line]
        words = {"create": " create ", "delete": " delete ", "start": "docker run", "follow": "docker logs", "clear": "docker stop"}
        return status, [next(name for name, word in words.items() if word in line) for line in calls]

    run.folder = tmp_path
    return run


RUN = ["start", "follow", "clear"]


def test_a_run_waits_for_its_tpus_and_gives_them_back(cloud):
    assert cloud([0]) == (0, ["create", *RUN, "delete"])


def test_tpus_that_are_there_are_taken_and_may_be_kept(cloud):
    (cloud.folder / "states").write_text("ACTIVE\n")
    assert cloud([0], more=["--keep"]) == (0, RUN)


def test_a_run_that_asks_for_it_is_started_again_on_the_same_tpus(cloud):
    assert cloud([RESTART_STATUS, RESTART_STATUS, 0]) == (0, ["create", *RUN, *RUN, *RUN, "delete"])


def test_tpus_that_are_taken_away_are_asked_for_again(cloud):
    assert cloud(["255 gone", "0"]) == (0, ["create", "start", "follow", "delete", "create", *RUN, "delete"])


def test_a_lost_connection_leaves_the_run_alone(cloud):
    assert cloud([255, 0]) == (0, ["create", "start", "follow", *RUN, "delete"])


def test_a_run_that_makes_no_progress_is_given_up(cloud):
    assert cloud([1], steps=[4], more=["--restarts=1"]) == (1, ["create", *RUN, *RUN, "delete"])


def test_a_mistake_is_not_repeated(cloud):
    assert cloud([2]) == (2, ["create", *RUN, "delete"])


def test_refused_tpus_are_an_error(cloud):
    with pytest.raises(UserError, match="the TPUs were refused; gcloud .* describe sizes-8b --zone=us-east5-b says why"):
        cloud([0], states=["FAILED"])


def test_slices_are_nodes_of_one_resource(asked):
    one, two = (tpu_vm.Commands(*asked("tpu-vm", "--spot", "--project=video", f"--slices={n}")).create for n in (1, 2))
    assert one[5:] == [
        "sizes-8b", "--zone=us-east5-b", "--project=video", "--accelerator-type=v6e-256", "--runtime-version=v2-alpha-tpuv6e",
        "--node-id=sizes-8b", "--spot",
    ]  # fmt: skip
    assert two[-3:] == ["--node-count=2", "--node-prefix=sizes-8b", "--spot"]


# A host: docker keeps what runs in files, and `wait` gives the status of the container.
SUDO = """#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "$*" >>calls
case "$1 $2" in
  "docker inspect") [ -e running ] && echo true ;;
  "docker run") touch running ;;
  "docker rm") rm -f running ;;
  "docker logs") echo "step 1" ;;
  "docker wait") echo 75 ;;
esac
"""


@pytest.fixture
def host(tmp_path):
    (tmp_path / "sudo").write_text(SUDO)
    (tmp_path / "sudo").chmod(0o755)

    def run(script):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=20)
        calls = (tmp_path / "calls").read_text().splitlines()
        (tmp_path / "calls").unlink()
        return done, calls

    return run


def test_a_host_starts_one_container_and_leaves_one_that_runs(host, asked):
    script = tpu_vm.start_script(asked("tpu-vm", "--config.train.steps=7")[0], "us-docker.pkg.dev/p/r/videodit:tpu")
    done, calls = host(script)
    assert done.returncode == 0, done.stderr
    assert [each.split()[1] for each in calls] == ["inspect", "rm", "auth", "run"]
    assert calls[2] == "gcloud auth configure-docker us-docker.pkg.dev --quiet"
    image = "us-docker.pkg.dev/p/r/videodit:tpu"
    run = f"{image} videodit train --config=experiments/sizes.py:8b --workdir=gs://bucket/run --config.train.steps=7"
    assert calls[3].endswith(run) and "--env=LIBTPU_INIT_ARGS=--xla" in calls[3] and "--env=VIDEODIT_PROCESSES=auto" in calls[3]
    done, calls = host(script)
    assert done.returncode == 0 and [each.split()[1] for each in calls] == ["inspect"]


def test_following_ends_as_the_container_does(host):
    done, _ = host(tpu_vm.FOLLOW)
    assert done.returncode == RESTART_STATUS


def test_clearing_lets_a_run_save(host):
    _, calls = host(tpu_vm.CLEAR)
    assert calls[-2:] == ["docker stop --time=600 videodit", "docker rm videodit"]

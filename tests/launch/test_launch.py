"""The launch scripts: mistakes are one line, finished stages are skipped, time is summed over kills and no child outlives one."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ["launch/local.sh", "launch/test.sh", "launch/environment.sh", ".ci/run"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# Stands for the installed command: notes its arguments, then fails, sleeps or succeeds as the file `behaviour` says.
COMMAND = """#!/usr/bin/env bash
echo "$*" >>"$STUB/calls"
case "$(cat "$STUB/behaviour" 2>/dev/null)" in
  "fail $1") echo "videodit: no luck" >&2; exit 2 ;;
  "sleep $1") echo $$ >"$STUB/pid"; exec sleep 60 ;;
esac
"""


def bash(*command, **environment):
    return subprocess.run(["bash", *command], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script):
    assert bash("-n", str(ROOT / script)).returncode == 0


@pytest.mark.parametrize("script", ["launch/local.sh", "launch/test.sh", ".ci/run"])
def test_scripts_can_be_run(script):
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("script", ["launch/local.sh", "launch/test.sh"])
def test_help_needs_nothing(script, tmp_path):
    result = subprocess.run(["bash", str(ROOT / script), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith(f"usage: {script}")


@pytest.mark.parametrize("script", ["launch/local.sh", "launch/test.sh"])
@pytest.mark.parametrize("python", ["/nowhere/python3", "false"])
def test_an_unusable_python_is_one_clear_line_and_status_2(script, python, tmp_path):
    config = tmp_path / "config.py"
    config.touch()
    arguments = ["--workdir", str(tmp_path / "w"), "--config", str(config)] if "local" in script else []
    result = bash(str(ROOT / script), *arguments, PYTHON=python)
    assert result.returncode == 2
    assert result.stderr == f"PYTHON is '{python}', expected a Python 3.11 or newer that can make virtual environments\n"
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--wrkdir", "x"], "unknown argument '--wrkdir'; known: --workdir DIR"),
        (["--workdir"], "--workdir has no value"),
        (["--data=/nowhere"], "--data is '/nowhere', which does not exist"),
        (["--config=/nowhere.py"], "--config is '/nowhere.py', which is not a file"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, said):
    result = bash(str(ROOT / "launch/local.sh"), *arguments, PYTHON=sys.executable)
    assert result.returncode == 2 and said in result.stderr and result.stderr.count("\n") == 1


@pytest.fixture
def clone(tmp_path):
    """A copy of the scripts beside an environment that is already made, whose `videodit` only notes how it is called."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "launch", clone / "launch")
    shutil.copy(ROOT / "setup.py", clone)
    (clone / "experiments").mkdir()
    (clone / "experiments" / "local.py").touch()
    binaries = clone / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name, text in (("videodit", COMMAND), ("python", "#!/bin/sh\nexit 0\n")):
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    stamp_as(clone, ".[prepare]")
    return clone


def stamp_as(clone, requirement):
    """Makes the environment pass for one that was made with `requirement`."""
    command = 'source "$1/launch/environment.sh"; environment_stamp "$0" "$2" "$1"'
    (clone / ".venv" / ".stamp").write_text(bash("-c", command, sys.executable, str(clone), requirement).stdout)


def local(clone, *arguments):
    script = str(clone / "launch/local.sh")
    return bash(script, "--workdir", str(clone / "run"), *arguments, PYTHON=sys.executable, STUB=str(clone))


def calls(clone):
    return [line.split()[0] for line in (clone / "calls").read_text().splitlines()]


STAGES = ["prepare", "train", "encode", "train", "evaluate"]


def test_stages_run_in_order_and_are_not_repeated(clone):
    result = local(clone)
    assert result.returncode == 0, result.stderr
    assert calls(clone) == STAGES
    assert f"{clone}/run/report.html" in result.stdout.splitlines()[-1]
    assert set(json.loads((clone / "run" / "stages.json").read_text())) == {"install", "prepare", "vae", "encode", "dit", "sample"}
    assert local(clone).returncode == 0
    assert calls(clone) == STAGES


def test_a_failed_stage_ends_the_job_and_the_next_run_goes_on_there(clone):
    (clone / "behaviour").write_text("fail encode")
    result = local(clone)
    assert result.returncode == 2 and "no luck" in result.stderr
    (clone / "behaviour").unlink()
    assert local(clone).returncode == 0
    assert calls(clone) == ["prepare", "train", "encode", "encode", "train", "evaluate"]


def test_own_data_reaches_the_config(clone):
    (clone / "mine").mkdir()
    assert local(clone, f"--data={clone}/mine").returncode == 0
    given = (clone / "calls").read_text().splitlines()
    assert all(f"--config.data.inputs={clone}/mine" in call for call in given)
    variants = [re.search(r"local\.py:(\w+)", call).group(1) for call in given]
    assert variants == ["vae_files", "vae_files", "dit_files", "dit_files", "dit_files"]


@pytest.mark.parametrize("place", ["gs://bucket/clips", "/some/where/*.tar"])
def test_a_bucket_or_a_glob_is_passed_on_as_it_is(clone, place):
    assert local(clone, "--data", place).returncode == 0
    assert f"--config.data.inputs={place}" in (clone / "calls").read_text().splitlines()[0]


def test_the_worlds_take_the_base_install_and_own_data_more(clone):
    stamp_as(clone, ".")
    assert local(clone).returncode == 0
    (clone / "mine").mkdir()
    arguments = [str(clone / "launch/local.sh"), "--workdir", str(clone / "other"), "--data", str(clone / "mine")]
    made_anew = bash(*arguments, PYTHON=sys.executable, STUB=str(clone), PIP_NO_INDEX="1")
    assert made_anew.returncode != 0 and "installing into" in made_anew.stderr


def test_a_workdir_of_another_job_is_refused(clone):
    (clone / "mine").mkdir()
    assert local(clone).returncode == 0
    result = local(clone, f"--data={clone}/mine")
    assert result.returncode == 2 and "holds another job" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children with their parent on Linux")
def test_killed_alone_the_job_takes_its_stage_with_it(clone):
    (clone / "behaviour").write_text("sleep encode")
    job = subprocess.Popen(["bash", str(clone / "launch/local.sh"), "--workdir", str(clone / "run")],
                           env={**os.environ, "PYTHON": sys.executable, "STUB": str(clone)}, stdout=subprocess.DEVNULL)
    wait_for(lambda: (clone / "pid").exists() and (clone / "pid").read_text().strip())
    wait_for(lambda: "encode" in json.loads((clone / "run" / "stages.json").read_text()))
    job.kill()
    job.wait()
    wait_for(lambda: not alive(int((clone / "pid").read_text())))
    before = json.loads((clone / "run" / "stages.json").read_text())["encode"]
    assert before > 0.5
    (clone / "behaviour").unlink()
    assert local(clone).returncode == 0
    assert json.loads((clone / "run" / "stages.json").read_text())["encode"] >= before


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_the_stage_timer_passes_on_how_its_command_ended(tmp_path):
    def run(*command):
        return subprocess.run([sys.executable, str(ROOT / "launch/stages.py"), str(tmp_path), "dit", "--", *command]).returncode

    assert run("true") == 0
    assert run("sh", "-c", "exit 3") == 3
    assert run("sh", "-c", "kill -TERM $$") == 128 + signal.SIGTERM


def test_an_environment_is_made_where_there_is_none_and_then_kept(tmp_path):
    # An interpreter that is the real one, but for making environments and installing, which it notes.
    fake, notes = tmp_path / "python", tmp_path / "notes"
    fake.write_text(
        f"""#!/bin/sh
case "$1 $2" in
  "-m venv") echo venv >>{notes}; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/videodit" ;;
  "-m pip") echo "pip $*" >>{notes} ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
    )
    fake.chmod(0o755)
    command = f'set -euo pipefail; source "{ROOT}/launch/environment.sh"; make_environment "$0" ".[dev]" "{ROOT}"'
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-c", command, str(tmp_path / "made")], capture_output=True, text=True, env={**os.environ, "PYTHON": str(fake)}
        )
        assert done.returncode == 0, done.stderr
    venv, pip = notes.read_text().splitlines()
    assert venv == "venv" and pip.endswith("--editable .[dev]")


def test_ci_refuses_to_remove_what_is_no_environment(tmp_path):
    (tmp_path / "precious").touch()
    result = bash(str(ROOT / ".ci/run"), VENV=str(tmp_path))
    assert result.returncode == 2 and (tmp_path / "precious").exists()

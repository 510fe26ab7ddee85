"""GPU hosts under Slurm: a batch script with a task for each GPU.

The repository, its environment and the workdir lie on a file system that all hosts share. Before the time limit Slurm sends SIGTERM, the
run saves and ends with RESTART_STATUS, and the job queues itself again; so it does after a crash, within `--restarts` (launch/restarts.py).
"""

import argparse
import shlex
import subprocess
import sys

from launch.job import GRACE_SECONDS, ROOT, Job, here
from videodit.core.errors import RESTART_STATUS, UserError

ABOUT = "GPU hosts under Slurm: a batch script, by sbatch"

# How long the other tasks may take to end after the first has: JAX finds out within 100 s that one of them is gone.
_WAIT_SECONDS = 180


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--time", default="24:00:00", help="limit of one stay in the machine (default: 24:00:00)")
    parser.add_argument("--partition")
    parser.add_argument("--account")


def batch_script(job: Job, options: argparse.Namespace) -> str:
    """The batch script. Raises UserError where the job is not one for GPUs on a shared file system."""
    if not job.machine.is_gpu:
        raise UserError(f"--topology is {job.machine.topology}, expected GPUs, e.g. h100:64; TPUs are started by gke or tpu-vm")
    workdir = job.workdir_here()
    if "://" in workdir or any(map(str.isspace, workdir)):
        raise UserError(f"--workdir is {workdir!r}; expected a directory that all hosts of the cluster share, without blanks in its path")
    train = job.train([sys.executable, "-m", "videodit.cli"], job.config_here(), workdir)
    srun = ["srun", f"--wait={_WAIT_SECONDS}", "--kill-on-bad-exit=0", *train]
    again = [sys.executable, str(ROOT / "launch/restarts.py"), f"--workdir={workdir}", f"--limit={job.limit}"]
    options_given = [f"--{name}={getattr(options, name)}" for name in ("partition", "account") if getattr(options, name)]
    directives = [
        f"--job-name={job.name}",
        f"--nodes={job.machine.hosts}",
        f"--ntasks-per-node={job.machine.chips_per_host}",
        f"--gpus-per-node={job.machine.chips_per_host}",
        "--exclusive",
        f"--time={options.time}",
        f"--signal=TERM@{GRACE_SECONDS}",  # to the tasks, not to this script
        "--requeue",
        "--open-mode=append",
        f"--output={workdir}/slurm-%j.log",
        *options_given,
    ]
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in (job.environment() | here()).items())
    lines = "\n".join(f"#SBATCH {each}" for each in directives)
    return f"""#!/usr/bin/env bash
{lines}
set -uo pipefail

# What a run ends with that asks to be started again.
readonly RESTART_STATUS={RESTART_STATUS}
{exports}

# The tasks end by themselves, so that a checkpoint under way is finished; --wait ends those that do not.
status=0
{shlex.join(srun)} || status=$?

if {shlex.join(again)} --status="$status"; then
  scontrol requeue "$SLURM_JOB_ID"
  exit "$RESTART_STATUS"
fi
exit "$status"
"""


def plan(job: Job, options: argparse.Namespace) -> str:
    """What `run` does, as a script."""
    workdir = shlex.quote(job.workdir_here())
    return f"mkdir -p {workdir}\nsbatch <<'BATCH'\n{batch_script(job, options)}BATCH"


def run(job: Job, options: argparse.Namespace) -> int:
    """Submits the batch script. Returns sbatch's exit status."""
    script = batch_script(job, options)
    subprocess.run(["mkdir", "-p", job.workdir_here()], check=True)
    return subprocess.run(["sbatch"], input=script, text=True).returncode

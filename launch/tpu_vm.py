"""TPU VMs by queued resources: waits for the TPUs, runs the container on every host, and asks for others when these are taken away.

The container runs by itself on the hosts. This process follows the first host's log, and starts again what ends with RESTART_STATUS, a
crash or a preemption, within `--restarts` (launch/restarts.py). Where it is itself ended, the same command goes on: what is there is taken
as it is.
"""

import argparse
import shlex
import subprocess
import sys
import time

from launch.job import GRACE_SECONDS, Job, as_script
from launch.restarts import MISTAKE, Restarts
from videodit.core.errors import RESTART_STATUS, UserError

ABOUT = "Cloud TPU VMs: queued resources, by gcloud"

_POLL_SECONDS = 30.0
# Of ssh, where the connection was lost: what runs on the hosts goes on.
_LOST = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", required=True, help="the container, of launch/Containerfile with EXTRA=tpu")
    parser.add_argument("--zone", required=True)
    parser.add_argument("--project")
    parser.add_argument("--spot", action="store_true", help="TPUs that may be taken away")
    parser.add_argument("--keep", action="store_true", help="keep the TPUs when the run has ended")


class Commands:
    """Every command that this launcher gives, each a list of words."""

    def __init__(self, job: Job, options: argparse.Namespace):
        place = [f"--zone={options.zone}", *([f"--project={options.project}"] if options.project else [])]
        queued = ["gcloud", "compute", "tpus", "queued-resources"]
        nodes = [f"--node-id={job.name}"] if job.slices == 1 else [f"--node-count={job.slices}", f"--node-prefix={job.name}"]
        spot = ["--spot"] if options.spot else []
        everywhere = ["--node=all", "--worker=all"]
        ssh = lambda where, script: [*queued, "ssh", job.name, *place, *where, f"--command={script}"]
        self.create = [*queued, "create", job.name, *place, *job.machine.queued_flags(), *nodes, *spot]
        self.describe = [*queued, "describe", job.name, *place, "--format=value(state.state)"]
        self.delete = [*queued, "delete", job.name, *place, "--force", "--quiet"]
        self.start = ssh(everywhere, start_script(job, options.image))
        self.follow = ssh(["--node=0", "--worker=0"], FOLLOW)
        self.clear = ssh(everywhere, CLEAR)
        self.list = ["gcloud", "storage", "ls", f"{job.workdir_in_cloud().rstrip('/')}/checkpoints/"]


# Both run on a host. The first ends with the container's own status.
FOLLOW = 'sudo docker logs --follow videodit & exit "$(sudo docker wait videodit)"'
# The other hosts' containers end with the first one's, or soon after: JAX finds out within 100 s that one is gone.
CLEAR = f"sudo timeout 180 docker wait videodit; sudo docker stop --time={GRACE_SECONDS} videodit; sudo docker rm videodit"


def start_script(job: Job, image: str) -> str:
    """Starts the container on a host, unless it runs there already."""
    registry = image.partition("/")[0]
    login = f"sudo gcloud auth configure-docker {registry} --quiet && " if registry.endswith((".pkg.dev", "gcr.io")) else ""
    environment = [f"--env={name}={value}" for name, value in job.environment().items()]
    how = ["--detach", "--name=videodit", "--privileged", "--net=host", *environment]
    command = job.train(["videodit"], job.config_in_image(), job.workdir_in_cloud())
    run = shlex.join(["sudo", "docker", "run", *how, image, *command])
    running = '[ "$(sudo docker inspect --format="{{.State.Running}}" videodit 2>/dev/null)" = true ]'
    return f"{running} || {{ sudo docker rm --force videodit >/dev/null 2>&1; {login}{run}; }}"


def plan(job: Job, options: argparse.Namespace) -> str:
    """What `run` does, as a script."""
    commands = Commands(job, options)
    keep = "" if options.keep else f"\n{as_script(commands.delete)}"
    return f"""# 1. TPUs, unless they are there already
{as_script(commands.create)}
# 2. wait, looking every {_POLL_SECONDS:.0f} s, until this prints ACTIVE
{as_script(commands.describe)}
# 3. start the container on every host, and follow the first
{as_script(commands.start)}
{as_script(commands.follow)}
status=$?
# 4. clear the hosts
{as_script(commands.clear)}
# 5. status 0 or {MISTAKE}: finished. Else again from 1, where the TPUs are gone after giving them back; at most {job.limit} times in a row
#    without a newer checkpoint among these
{as_script(commands.list)}
# 6. give the TPUs back{" (--keep: not done)" if options.keep else ""}{keep}
exit "$status\""""


def run(job: Job, options: argparse.Namespace, poll_seconds: float = _POLL_SECONDS) -> int:
    """Runs the job to its end. Returns the exit status of its first process."""
    commands = Commands(job, options)
    restarts = Restarts(limit=job.limit, newest=_newest_step(commands))
    again, status = True, RESTART_STATUS
    while again:
        _wait_for_tpus(commands, poll_seconds)
        if subprocess.run(commands.start).returncode == 0:
            status = subprocess.run(commands.follow).returncode
        else:
            status = 1
        if _state(commands) == "ACTIVE" and status != _LOST:
            subprocess.run(commands.clear)
        again = restarts.again(status, _newest_step(commands))
        print(restarts.told(status, again), file=sys.stderr, flush=True)
    if not options.keep:
        subprocess.run(commands.delete)
    return status


def _state(commands: Commands) -> str:
    """The queued resource's state; "" where there is none."""
    found = subprocess.run(commands.describe, capture_output=True, text=True)
    if found.returncode and "NOT_FOUND" not in found.stderr:
        raise UserError(f"gcloud: {found.stderr.strip()}")
    return found.stdout.strip() if found.returncode == 0 else ""


def _wait_for_tpus(commands: Commands, poll_seconds: float) -> None:
    """Returns when the TPUs are there; those that are gone are asked for again."""
    before = None
    while (state := _state(commands)) != "ACTIVE":
        if state != before:
            print(f"launch: TPUs: {state or 'none yet'}", file=sys.stderr, flush=True)
            before = state
        if state == "FAILED":
            raise UserError(f"the TPUs were refused; {' '.join(commands.describe[:-1])} says why")
        if state == "SUSPENDED":  # they were taken away
            _must(commands.delete)
        elif not state:
            _must(commands.create)
        time.sleep(poll_seconds)


def _must(command: list[str]) -> None:
    if subprocess.run(command).returncode:
        raise UserError(f"{' '.join(command[:5])} failed, as it says above: nothing is waited for")


def _newest_step(commands: Commands) -> int:
    """The newest checkpoint's step, -1 for none: by gcloud, which is signed in where this process may not be."""
    found = subprocess.run(commands.list, capture_output=True, text=True)
    names = (line.rstrip("/").rpartition("/")[2] for line in found.stdout.splitlines())
    return max((int(name) for name in names if name.isdigit()), default=-1)

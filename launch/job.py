"""What all launchers have in common: a job, its arguments, its command and environment, and the preflight before it."""

import argparse
from dataclasses import dataclass
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

from launch import restarts
from launch.machines import Machine, parse_topology
from videodit.core.errors import UserError
from videodit.core.processes import PROCESSES
from videodit.preflight import xla_flags

ROOT = Path(__file__).resolve().parents[1]

# Seconds between SIGTERM and SIGKILL: what saving the largest states may take.
GRACE_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training run: `config` as FILE.py[:variant], `overrides` as --config.a.b=value, on `slices` slices of `machine`."""

    name: str
    config: str
    workdir: str
    machine: Machine
    slices: int
    overrides: tuple[str, ...]
    limit: int

    @property
    def config_file(self) -> Path:
        return Path(self.config.partition(":")[0]).absolute()

    def config_here(self) -> str:
        """The config by its absolute path, for processes that share this file system."""
        return f"{self.config_file}{self._variant()}"

    def config_in_image(self) -> str:
        """The config by its path in the repository, which is the working directory of the image.

        Raises UserError where it lies outside.
        """
        file = self.config_file.resolve()
        if not file.is_relative_to(ROOT):
            raise UserError(f"--config is {str(file)!r}, which no image holds; expected a file under {ROOT}")
        return f"{file.relative_to(ROOT)}{self._variant()}"

    def workdir_in_cloud(self) -> str:
        """The workdir, which must not be on this machine. Raises UserError where it is."""
        if not self.workdir.startswith("gs://"):
            raise UserError(f"--workdir is {self.workdir!r}, which the TPUs' hosts do not share; expected gs://BUCKET/...")
        return self.workdir

    def workdir_here(self) -> str:
        """The workdir by its absolute path, where it is not on gs://."""
        return self.workdir if "://" in self.workdir else str(Path(self.workdir).absolute())

    def _variant(self) -> str:
        return "".join(self.config.partition(":")[1:])

    def environment(self) -> dict[str, str]:
        """What every process is told: that there are others, and the compiler's flags."""
        return {PROCESSES: "auto"} | xla_flags.environment(self.machine.kind, self.slices)

    def train(self, videodit: list[str], config: str, workdir: str) -> list[str]:
        return [*videodit, "train", f"--config={config}", f"--workdir={workdir}", *self.overrides]

    def preflight(self) -> list[str]:
        """The command that says whether the job fits; none for processors, which have no fixed memory."""
        if not (self.machine.is_tpu or self.machine.is_gpu):
            return []
        asked = [f"--config={self.config_here()}", f"--topology={self.machine.topology}", f"--slices={self.slices}"]
        return [sys.executable, "-m", "videodit.cli", "preflight", *asked, *self.overrides]


def here() -> dict[str, str]:
    """What a process on this machine needs to run this very tree, installed or not."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that mean the same for every target."""
    parser.add_argument("--config", required=True, metavar="FILE.py[:variant]", help="the experiment")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="where the run writes, and goes on from: local or gs://")
    parser.add_argument("--topology", required=True, metavar="KIND:SHAPE", help="of one slice, e.g. v5p:4x4x8, h100:64, cpu:2")
    parser.add_argument("--slices", type=int, default=1, help="slices of TPUs, joined by the data centre's network (default: 1)")
    parser.add_argument("--name", help="of the job where it runs (default: after the config)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, as a script, and do nothing")
    parser.add_argument("--skip-preflight", action="store_true", help="do not ask first whether the job fits")
    parser.add_argument(
        "--restarts",
        type=int,
        default=restarts.LIMIT,
        metavar="N",
        help=f"give up after N starts in a row without a newer checkpoint (default: {restarts.LIMIT})",
    )


def make_job(given: argparse.Namespace, rest: list[str]) -> Job:
    """The job that the arguments ask for; `rest` are those that argparse did not know.

    Raises UserError where an argument has no meaning.
    """
    for each in rest:
        if not re.match(r"--(no)?config\.", each):
            raise UserError(f"unknown argument {each!r}; overrides are written --config.a.b=value, and --help lists the others")
        if each.startswith("--config.") and "=" not in each:
            raise UserError(f"{each} has no value; overrides are written --config.a.b=value")
    for name, least in (("slices", 1), ("restarts", 0)):
        if getattr(given, name) < least:
            raise UserError(f"--{name} is {getattr(given, name)}, expected {least} or more")
    machine = parse_topology(given.topology)
    if given.slices > 1 and not machine.is_tpu:
        raise UserError(f"--slices is {given.slices}, and only TPUs come in slices; expected 1 for {machine.topology}")
    name = given.name or re.sub(
        r"[^a-z0-9]+", "-", f"{Path(given.config.partition(':')[0]).stem}-{given.config.partition(':')[2]}".lower()
    ).strip("-")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", name):
        raise UserError(f"--name is {name!r}, expected at most 40 of a-z, 0-9 and -, with a letter first")
    job = Job(
        name=name,
        config=given.config,
        workdir=given.workdir,
        machine=machine,
        slices=given.slices,
        overrides=tuple(rest),
        limit=given.restarts,
    )
    if not job.config_file.is_file():
        raise UserError(f"--config is {given.config!r}, and {job.config_file} is not a file")
    return job


def _preflight_environment(job: Job) -> dict[str, str]:
    """With the job's own flags: they change what is compiled, and with it the memory."""
    return here() | (xla_flags.environment(job.machine.kind, job.slices) if job.machine.is_tpu else {})


def preflight_script(job: Job) -> str:
    """What `check_fits` does, as a script."""
    command = job.preflight()
    return f"# does it fit?\n{as_script(command, _preflight_environment(job))} || exit\n" if command else ""


def check_fits(job: Job) -> int:
    """Asks the preflight whether the job fits; returns its exit status."""
    command = job.preflight()
    status = subprocess.run(command, env=os.environ | _preflight_environment(job)).returncode if command else 0
    if status:
        what = "the job does not fit" if status == 1 else f"preflight ended with status {status}"
        print(f"launch: {what}: nothing was started (--skip-preflight starts it all the same)", file=sys.stderr)
    return status


def as_script(command: list[str], environment: dict[str, str] | None = None) -> str:
    """A command as a shell would be given it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()), shlex.join(command)])

"""A pod on one machine: several processes that train one job together, as the hosts of a pod do. Restarts all when one ends.

For processors (`--topology=cpu:8 --processes=2`: two processes with four devices each) and for the GPUs of one host (`h100:8`).
"""

import argparse
from collections.abc import Iterator
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

from launch.job import GRACE_SECONDS, Job, as_script, here
from launch.restarts import Restarts, newest_step
from launch.stages import die_with_parent
from videodit.core.errors import RESTART_STATUS, UserError
from videodit.core.processes import PROCESSES
from videodit.preflight import xla_flags

ABOUT = "this machine: several processes, on its processors or its GPUs"

# How long the others may take once one has finished, or was told to stop and has saved: they end together.
_TOGETHER_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, help="how many share the devices (default: one for each)")


def environments(job: Job, options: argparse.Namespace, address: str) -> list[dict[str, str]]:
    """What each process is told. Raises UserError where the devices cannot be shared so."""
    devices = job.machine.chips
    count = devices if options.processes is None else options.processes
    if job.machine.is_tpu:
        raise UserError(f"--topology is {job.machine.topology}, expected processors or one host's GPUs, e.g. cpu:2 or h100:8")
    if job.machine.is_gpu and job.machine.hosts > 1:
        raise UserError(f"--topology is {job.machine.topology}, {job.machine.hosts} hosts; expected one, or slurm")
    if count < 1 or devices % count:
        raise UserError(f"--processes is {count}, expected a divisor of {devices}, the devices of {job.machine.topology}")
    return [_environment(job, index, count, address) for index in range(count)]


def _environment(job: Job, index: int, count: int, address: str) -> dict[str, str]:
    share = job.machine.chips // count
    told = {PROCESSES: f"{index}/{count}@{address}"} if count > 1 else {}
    if job.machine.is_gpu:
        mine = range(index * share, (index + 1) * share)
        return told | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, mine))} | xla_flags.environment(job.machine.kind, 1)
    return told | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={share}"}


def command(job: Job) -> list[str]:
    return job.train([sys.executable, "-m", "videodit.cli"], job.config_here(), job.workdir_here())


def plan(job: Job, options: argparse.Namespace) -> str:
    """What `run` does, as a script."""
    lines = [as_script(command(job), here() | each) + " &" for each in environments(job, options, "127.0.0.1:$port")]
    # the port is chosen at every start
    text = "\n".join(lines).replace("@127.0.0.1:$port'", '@127.0.0.1:\'"$port"')
    return f"""# all of these at once; when one ends, so do the others. Status 0 or 2: finished. Else again, at most {job.limit} times in
# a row without a newer checkpoint in {job.workdir_here()}
port=$({sys.executable} -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
{text}
wait"""


def run(job: Job, options: argparse.Namespace) -> int:
    """Runs the job to its end, or until it is told to stop. Returns the exit status that tells how it went."""
    environments(job, options, "")  # a mistake shows before anything is started
    restarts = Restarts(limit=job.limit, newest=newest_step(job.workdir_here()))
    with _Stop() as stop:
        while True:
            told = [os.environ | here() | each for each in environments(job, options, f"127.0.0.1:{_free_port()}")]
            status = _Workers(command(job), told).wait(stop)
            again = restarts.again(status, newest_step(job.workdir_here())) and not stop.told
            print(restarts.told(status, again), file=sys.stderr, flush=True)
            if not again:
                return status


class _Stop:
    """SIGTERM and SIGINT, inside its `with`: `told` is how often they came."""

    def __enter__(self) -> "_Stop":
        self.told = 0
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, *_: object) -> None:
        self.told += 1


class _Workers:
    """The processes of one start."""

    def __init__(self, command: list[str], told: list[dict[str, str]]):
        # sessions of their own: an interrupt from the terminal reaches them as the SIGTERM that makes them save
        self._all = [
            subprocess.Popen(
                command,
                env=each,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
            for each in told
        ]
        self._readers = [
            threading.Thread(target=_pass_on, args=(each.stdout, f"[{index}] " if len(told) > 1 else ""))
            for index, each in enumerate(self._all)
        ]
        for reader in self._readers:
            reader.start()
        print(f"launch: started processes {' '.join(str(each.pid) for each in self._all)}", file=sys.stderr, flush=True)

    def wait(self, stop: _Stop) -> int:
        """Returns when all have ended: 0 where all finished, else the status of the first that did not (128 + n for signal n).

        They may end together where they finish or were told to stop; where one crashes, the others wait for it in vain, and are killed.
        """
        asked, deadline = 0, None
        with self._ended():
            while any(each.poll() is None for each in self._all):
                over = [each.returncode for each in self._all if each.poll() is not None]
                if any(status not in (0, RESTART_STATUS) for status in over):
                    break
                if over and deadline is None:
                    deadline = time.monotonic() + _TOGETHER_SECONDS
                if stop.told > asked:
                    asked, deadline = stop.told, time.monotonic() + (GRACE_SECONDS if stop.told == 1 else 0.0)
                    self._send(signal.SIGTERM)
                if deadline is not None and time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            first = [each.returncode for each in self._all if each.poll() is not None and each.returncode]
        statuses = [*first, *(each.returncode for each in self._all)]
        worst = next((status for status in statuses if status), 0)
        return worst if worst >= 0 else 128 - worst

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        """Leaves no process behind, however it ends."""
        try:
            yield
        finally:
            self._send(signal.SIGKILL)
            for each in self._all:
                each.wait()
            for reader in self._readers:
                reader.join()

    def _send(self, number: int) -> None:
        for each in self._all:
            if each.poll() is None:
                each.send_signal(number)


def _pass_on(source: IO[str], prefix: str) -> None:
    for line in source:
        print(f"{prefix}{line}", end="", flush=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

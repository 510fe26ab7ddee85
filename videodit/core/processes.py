"""The processes of one job, on one host or many."""

import os
import re

from videodit.core.errors import UserError

# Set by a launcher, in each process: "auto" where JAX finds the others by itself (hosts of TPUs, Slurm), else INDEX/COUNT@HOST:PORT.
PROCESSES = "VIDEODIT_PROCESSES"


def join_processes() -> None:
    """Joins the job's other processes, if a launcher says that there are any; before JAX looks for devices.

    Raises UserError where the launcher's word is not understood.
    """
    told = os.environ.get(PROCESSES, "")
    if not told:
        return
    import jax  # here, because launchers need the name above alone

    if told == "auto":
        jax.distributed.initialize()
        return
    match = re.fullmatch(r"(\d+)/(\d+)@(\S+:\d+)", told)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"{PROCESSES} is {told!r}, expected auto or INDEX/COUNT@HOST:PORT, e.g. 0/2@10.0.0.1:8476")
    jax.distributed.initialize(match[3], int(match[2]), int(match[1]), cluster_detection_method="deactivate")

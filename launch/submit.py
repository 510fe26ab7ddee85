#!/usr/bin/env python3
"""One entry for all places where a job can run:

    python launch/submit.py pod    --config FILE.py[:variant] --workdir DIR --topology cpu:2
    python launch/submit.py slurm  --config FILE.py[:variant] --workdir DIR --topology h100:64 --partition NAME
    python launch/submit.py gke    --config FILE.py[:variant] --workdir gs://... --topology v5p:8x16x16 --slices 2 --image IMAGE
    python launch/submit.py tpu-vm --config FILE.py[:variant] --workdir gs://... --topology v6e:16x16 --image IMAGE --zone ZONE

The same arguments everywhere; overrides (--config.a.b=value) go to `videodit train`. First it asks `videodit preflight` whether the job
fits. `--dry-run` prints all that would be done, and does nothing. A job that is preempted, or crashes, goes on from its newest checkpoint.
Exit status: that of the run, or of handing it in; 1 where it does not fit; 2 on a mistake.
"""

import argparse
from pathlib import Path
import sys

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this tree, installed or not, from wherever it is run

from launch import gke, pod, slurm, tpu_vm  # noqa: E402
from launch.job import add_arguments, check_fits, make_job, preflight_script  # noqa: E402
from videodit.core.errors import UserError  # noqa: E402

TARGETS = {"pod": pod, "slurm": slurm, "gke": gke, "tpu-vm": tpu_vm}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="launch/submit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    targets = found.add_subparsers(dest="target", required=True, metavar="TARGET")
    for name, target in TARGETS.items():
        one = targets.add_parser(name, help=target.ABOUT, description=target.__doc__, allow_abbrev=False)
        add_arguments(one)
        target.add_arguments(one)
    return found


def main(arguments: list[str] | None = None) -> int:
    given, rest = parser().parse_known_args(arguments)
    target = TARGETS[given.target]
    try:
        job = make_job(given, rest)
        script = target.plan(job, given)  # whatever is wrong shows here, before anything is done
        if given.dry_run:
            print(f"#!/usr/bin/env bash\n{'' if given.skip_preflight else preflight_script(job)}{script}")
            return 0
        status = 0 if given.skip_preflight else check_fits(job)
        return status or target.run(job, given)
    except UserError as error:
        print(f"launch/submit.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("launch/submit.py: interrupted", file=sys.stderr)
        return 130
    except FileNotFoundError as error:  # gcloud, kubectl or sbatch
        print(f"launch/submit.py: {error.filename} was not found on this machine; expected it on PATH", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

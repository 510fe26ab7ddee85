"""When a run that has ended is started again: the one rule of all launchers that start again by themselves.

A run that finished (status 0) or met a mistake in usage, config or input (status 2) is not. Any other end is: a preemption or a hang
(RESTART_STATUS), a crash, a kill. It stops after too many in a row that left no newer checkpoint.

    python launch/restarts.py --workdir=DIR --status=N --limit=N     # for scripts: exit status 0 to start again, 1 to stop
"""

import argparse
from dataclasses import dataclass
import json
import os
from pathlib import Path
import sys

if __name__ == "__main__":  # run as a file, from anywhere
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from etils import epath

MISTAKE = 2
LIMIT = 3


@dataclass
class Restarts:
    """Counts a job's ends. `newest` is the newest checkpoint's step (-1 for none), `fruitless` how many ends in a row left no newer one."""

    limit: int = LIMIT
    newest: int = -1
    fruitless: int = 0

    def again(self, status: int, newest: int) -> bool:
        """Whether to start again after an end with `status` (128 + n where signal n ended it) and `newest` checkpoint."""
        self.fruitless = 0 if newest > self.newest else self.fruitless + 1
        self.newest = max(self.newest, newest)
        return status not in (0, MISTAKE) and self.fruitless <= self.limit

    def told(self, status: int, again: bool) -> str:
        """A line about the end that `again` was asked about."""
        at = "with no checkpoint" if self.newest < 0 else f"with its newest checkpoint at step {self.newest}"
        if again:
            return f"launch: ended with status {status}, {at}; starting again ({self.fruitless} of {self.limit} without a newer checkpoint)"
        why = f": {self.fruitless} ends in a row left no newer checkpoint" if status not in (0, MISTAKE) else ""
        return f"launch: ended with status {status}, {at}{why}"


def newest_step(workdir: str) -> int:
    """The newest finished checkpoint's step in a workdir, local or gs://; -1 where there is none."""
    folder = epath.Path(workdir) / "checkpoints"
    if not folder.exists():
        return -1
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=-1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--status", type=int, required=True)
    parser.add_argument("--limit", type=int, default=LIMIT)
    given = parser.parse_args(arguments)
    path = Path(given.workdir) / ".restarts.json"  # a job that is queued again is another process
    counted = json.loads(path.read_text()) if path.exists() else {}
    restarts = Restarts(limit=given.limit, **counted)
    again = restarts.again(given.status, newest_step(given.workdir))
    partial = path.with_name(f"{path.name}.partial")
    # who starts it again after a stop has mended something: counting begins anew
    partial.write_text(json.dumps({"newest": restarts.newest, "fruitless": restarts.fruitless if again else 0}))
    os.replace(partial, path)
    print(restarts.told(given.status, again), file=sys.stderr)
    return 0 if again else 1


if __name__ == "__main__":
    sys.exit(main())

"""Tasks as an Apache Beam pipeline. Importing it needs the extra `prepare`."""

from collections.abc import Iterator, Sequence
import logging
import pickle
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from etils import epath

from videodit.core.errors import UserError
from videodit.core.files import write_atomically
from videodit.data.runners import Apart, Work

# Tasks go by files: what a pipeline is submitted with may hold some megabytes only.
_TASKS_A_FILE = 1000


def run(work: Work, tasks: Sequence[Any], directory: epath.PathLike, options: Sequence[str]) -> None:
    """Does all tasks in a pipeline with Beam's own `options`. Their files lie below `directory` while it runs.

    Raises:
      UserError: where Beam does not take the options.
    """
    folder = epath.Path(directory) / ".partial-tasks"
    files = [folder / f"{start // _TASKS_A_FILE:06d}" for start in range(0, len(tasks), _TASKS_A_FILE)]
    for number, file in enumerate(files):
        write_atomically(file, pickle.dumps(list(tasks[number * _TASKS_A_FILE : (number + 1) * _TASKS_A_FILE])))
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(["--default_sdk_harness_log_level=WARNING", *options]))
    except (ImportError, ValueError, SystemExit) as error:  # a runner that is not installed; an option of a wrong value
        raise UserError(f"Beam does not take {' '.join(options)}: {error}") from error
    with pipeline:
        _ = (
            pipeline
            | "files of tasks" >> beam.Create([str(file) for file in files])
            | "tasks" >> beam.FlatMap(_read)
            | "spread" >> beam.Reshuffle()
            | "do" >> beam.ParDo(_Do(work))
        )
    folder.rmtree()


def _read(file: str) -> Iterator[Any]:
    yield from pickle.loads(epath.Path(file).read_bytes())


class _Do(beam.DoFn):
    def __init__(self, work: Work):
        self._work = work

    def setup(self):
        self._apart = Apart()

    def process(self, task: Any):
        self._work(task, self._apart)

    def teardown(self):
        self._apart.close()

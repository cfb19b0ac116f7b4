"""Checks what a replay is made of before anything starts; prints ``seg`` or ``recognition``.

For replay.launch.py, which runs in a Python that may lack what is needed to tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.suggestions import near_path
from evdistill_core.perception.front_end import check_files, check_student
from evdistill_core.perception.parameter_files import kind_of, load_as
from evdistill_core.perception.tasks import TASKS, PerceptionTask
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.readers.bag import BagRecording


@dataclass(frozen=True)
class Replay:
    """Arguments of the launch file, in the order in which the program takes them.

    Attributes:
        node: ``seg`` or ``recognition``, or ``auto``: what student and parameters are for.
        student: file; empty: as in the parameter file.
        params_file: of the node.
        bag: to be played.
        events: topic of the events in it.
        labels: file of what is true; empty: none.
    """

    node: str
    student: str
    params_file: str
    bag: str
    events: str
    labels: str


def check(given: Replay) -> str:
    """Return which node the replay is for: the name of its launch file.

    Raises:
        EvdistillError: something is missing, damaged, or does not fit.
    """
    path = Path(given.params_file).expanduser() if given.params_file else None
    overrides = {"student": given.student} if given.student else {}
    is_open = given.node == "auto"
    task = TASKS[kind_of(path, overrides).TASK] if is_open else _task(given.node)
    parameters = load_as(task.parameters, path, overrides)
    check_files(parameters)
    check_student(parameters)
    with open_recording(Path(given.bag).expanduser(), topic=given.events) as recording:
        if not isinstance(recording, BagRecording):
            raise ConfigError(
                f"{given.bag} is no bag of ROS 2 ({recording.info.format}); make one of it with "
                f"`evdistill convert {given.bag} OUT.mcap`"
            )
    labels = Path(given.labels).expanduser()
    if given.labels and not labels.exists():
        raise ConfigError(f"there are no labels {labels}{near_path(labels)}")
    return task.files


def _task(node: str) -> PerceptionTask:
    return next(t for t in TASKS.values() if t.files == node)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the node, or one line of what is wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        print(check(Replay(*given)))  # noqa: T201
    except EvdistillError as error:
        print(f"replay: error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

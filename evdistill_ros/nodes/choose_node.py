"""Prints which node a student and a parameter file are for: ``seg`` or ``recognition``.

For launch files, which run in a Python that may lack what is needed to tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.perception.parameter_files import kind_of
from evdistill_core.perception.tasks import TASKS


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the node for a student ("": as in the file) and a parameter file ("": none)."""
    student, params_file = sys.argv[1:] if arguments is None else arguments
    path = Path(params_file).expanduser() if params_file else None
    try:
        kind = kind_of(path, {"student": student} if student else {})
    except EvdistillError as error:
        print(f"choose_node: error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    print(TASKS[kind.TASK].files)  # noqa: T201


if __name__ == "__main__":
    main()

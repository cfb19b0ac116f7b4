"""The numbers of a run: one JSON object a line, cut back when a run goes on from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from evdistill_core.foundation.files import write_text_atomic


class RunLog:
    """Appends records to ``metrics.jsonl``; every record has a ``step``.

    Args:
        path: the file.
        keep_below: records of this step and above are dropped: a killed run may have logged steps
            after its last checkpoint, and will do them again.
    """

    def __init__(self, path: Path, *, keep_below: int) -> None:
        self.path = path
        kept = [r for r in read_records(path) if _step(r) < keep_below]
        write_text_atomic(path, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, **record: object) -> None:
        """Append one record; it is on its way to the disk when this returns."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoLog:
    """The log of a process that keeps none."""

    def write(self, **record: object) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def read_records(path: Path) -> Iterator[dict[str, object]]:
    """Yield the records of a log; a last line that was cut by a kill is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return
        if isinstance(record, dict):
            yield record


def _step(record: dict[str, object]) -> int:
    step = record.get("step", -1)
    return step if isinstance(step, int) else -1

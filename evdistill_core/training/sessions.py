"""Who trained a run, when and how long: one session each time that it was started or resumed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from evdistill_core.foundation.files import write_text_atomic
from evdistill_core.reports.origin import Origin, Stopwatch

_log = logging.getLogger(__name__)
SESSIONS = "sessions.json"
_WRITE_EVERY_S = 30.0  # a killed run forgets at most so much of its time


@dataclass(frozen=True)
class Session:
    """One stretch of a run.

    Attributes:
        began: time with zone, ISO 8601.
        seconds: that it took so far.
        first_step: steps that were done before it.
        last_step: steps that are done after it.
        command: as typed.
        software: version, commit and libraries.
        machine: processor, memory, system.
    """

    began: str
    seconds: float
    first_step: int
    last_step: int
    command: str = ""
    software: str = ""
    machine: str = ""


class Sessions:
    """Keeps ``sessions.json`` of a run: its earlier sessions and the one at hand.

    Args:
        folder: of the run.
        step: at which this session begins; steps above it that an earlier session did are lost.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / SESSIONS
        kept = [s for s in read_sessions(self._path) if s.first_step < step]
        self._earlier = [replace(s, last_step=min(s.last_step, step)) for s in kept]
        self._watch = Stopwatch()
        self._first_step = step
        self._written_s = time.monotonic()

    def note(self, step: int, *, now: bool = False, is_finished: bool = False) -> None:
        """Write how far the run is, at most every half a minute unless ``now`` is set.

        Args:
            step: steps that are done.
            now: write in any case.
            is_finished: the run is over, and its page is written.
        """
        if not now and time.monotonic() - self._written_s < _WRITE_EVERY_S:
            return
        self._written_s = time.monotonic()
        content = {
            "finished": is_finished,
            "sessions": [asdict(session) for session in self.all(step)],
        }
        try:
            write_text_atomic(self._path, json.dumps(content, indent=1) + "\n")
        except OSError as error:  # the run matters more; the report then knows less of its time
            _log.warning("%s cannot be written: %s", self._path, error.strerror or error)

    def all(self, step: int) -> list[Session]:
        """Return every session, oldest first; the one at hand ends at ``step``."""
        origin = self._watch.origin()
        ours = Session(
            origin.began.isoformat(),
            round(origin.seconds, 1),
            self._first_step,
            step,
            origin.command,
            origin.software,
            origin.machine,
        )
        return [*self._earlier, ours]


def origin_of(sessions: list[Session]) -> Origin:
    """Return the origin of a run: begun by the first session, the rest as in the last one."""
    last = sessions[-1]
    return Origin(
        datetime.fromisoformat(sessions[0].began),
        sum(session.seconds for session in sessions),
        last.command,
        last.software,
        last.machine,
    )


def read_sessions(path: Path) -> list[Session]:
    """Return the sessions of a file; none where it is missing or damaged."""
    try:
        return [_session(row) for row in _content(path)["sessions"]]
    except (ValueError, TypeError, KeyError):
        return []


def is_finished(folder: Path) -> bool:
    """Return whether the run in a folder is over, its page included."""
    return _content(folder / SESSIONS).get("finished") is True


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _session(row: Mapping[str, object]) -> Session:
    session = Session(
        str(row["began"]),
        float(str(row["seconds"])),
        int(str(row["first_step"])),
        int(str(row["last_step"])),
        *(str(row[name]) for name in ("command", "software", "machine")),
    )
    datetime.fromisoformat(session.began)  # a damaged time raises here and not in the report
    return session

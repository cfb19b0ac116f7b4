"""What ``--verbose`` switches on: log lines on stderr and whole tracebacks."""

from __future__ import annotations

import logging
import platform
import sys

from evdistill_core.foundation.version import VERSION

_log = logging.getLogger(__name__)

#: Our own loggers; libraries speak from INFO on, their DEBUG is a flood.
_OURS = ("evdistill", "evdistill_core", "evdistill_ros")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def show_log() -> None:
    """Show log lines on stderr: ours from DEBUG on, those of libraries from INFO on."""
    if is_shown():
        return
    handler = _Lines(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    _log.debug("evdistill %s, Python %s: %s", VERSION, platform.python_version(), sys.argv[1:])


def is_shown() -> bool:
    """Tell whether ``--verbose`` was given."""
    return any(isinstance(handler, _Lines) for handler in logging.getLogger().handlers)


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler of our own type, so that it is found again."""

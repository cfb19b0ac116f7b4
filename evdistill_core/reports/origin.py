"""What made a report: the command, when, how long, on which machine, with which version."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from evdistill_core.foundation.invocation import command_text, given_arguments
from evdistill_core.foundation.version import VERSION
from evdistill_core.reports.numbers import duration

_ROOT = Path(__file__).resolve().parents[2]
_GIT_TIMEOUT_S = 5.0
#: Packages whose version matters for results, by the module that shows that they are in use.
_LIBRARIES = {"torch": "torch", "onnxruntime": "onnxruntime", "numpy": "numpy"}


def now() -> datetime:
    """Return the time with its zone, to the second."""
    return datetime.now().astimezone().replace(microsecond=0)


@dataclass(frozen=True)
class Origin:
    """Where a report comes from.

    Attributes:
        began: when the work began.
        seconds: that it took, all sessions together.
        command: as typed; empty where a program called the library.
        software: version, commit, Python and libraries.
        machine: processor, cores, memory, system.
    """

    began: datetime = field(default_factory=now)
    seconds: float = 0.0
    command: str = ""
    software: str = ""
    machine: str = ""

    @staticmethod
    def here(began: datetime, seconds: float) -> Origin:
        """Return the origin of work that this process did.

        Args:
            began: when it began.
            seconds: that it took.
        """
        arguments = given_arguments()
        command = command_text(*arguments) if arguments else ""
        return Origin(began, seconds, command, software(), machine())


class Stopwatch:
    """Knows when work began and how long it takes.

    Attributes:
        began: when it was made.
    """

    def __init__(self) -> None:
        self.began = now()
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started_s

    def origin(self) -> Origin:
        """Return the origin of the work that ends now."""
        return Origin.here(self.began, self.seconds)


def software() -> str:
    """Return version and commit of evdistill, and the versions of what computes."""
    commit = git_commit(_ROOT)
    ours = f"evdistill {VERSION}" + (f", commit {commit}" if commit else "")
    loaded = [_library(name) for module, name in _LIBRARIES.items() if module in sys.modules]
    return "; ".join([ours, f"Python {platform.python_version()}", *filter(None, loaded)])


def _library(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


@cache
def git_commit(root: Path) -> str:
    """Return the commit of a clone, "-dirty" after it where files were changed.

    Args:
        root: the folder that holds the packages. A repository around an installed package is not
            ours, so the answer is empty unless this folder is the top of the work tree.
    """
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            [git, "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def machine() -> str:
    """Return processor, cores, memory and system; no name of the machine or of its user."""
    cores = os.cpu_count() or 1
    memory_gb = psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {platform.release()} ({platform.machine()})"
    parts = [
        _processor(),
        f"{cores} core{'s' if cores > 1 else ''}",
        f"{memory_gb:.0f} GB memory",
        system,
        _gpu(),
    ]
    return ", ".join(filter(None, parts))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    names = [row.partition(":")[2].strip() for row in text.splitlines() if "model name" in row]
    return names[0] if names else platform.processor()


def _gpu() -> str:
    torch = sys.modules.get("torch")  # not imported for a report
    if torch is None or not torch.cuda.is_available():
        return ""
    return f"GPU {torch.cuda.get_device_name(0)}"


def origin_rows(origin: Origin) -> Mapping[str, str]:
    """Return what a report tells of its origin, by name; without what is not known."""
    rows = {
        "Began": origin.began.strftime("%Y-%m-%d %H:%M:%S %Z").strip(),
        "Time taken": duration(origin.seconds),
        "Command": origin.command,
        "Software": origin.software,
        "Machine": origin.machine,
    }
    return {name: text for name, text in rows.items() if text}

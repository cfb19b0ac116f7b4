"""Subprocesses of ours: always reaped, never left behind, heard when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from evdistill_core.foundation.errors import EvdistillError

STOP_TIMEOUT_S = 15.0

# A child that survives us would keep sending: Linux ends it when its parent is gone, also when
# that was gone before it could ask for this.
_LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


class ChildError(EvdistillError):
    """A process that we started failed."""

    exit_code = 1


class Child:
    """A subprocess ``evdistill NAME ...`` with our environment, reaped when the block ends.

    Args:
        name: subcommand.
        arguments: its arguments.
        scratch: folder for what it says.
    """

    def __init__(self, name: str, arguments: Sequence[str], scratch: Path) -> None:
        self._name = name
        self._log = scratch / f"{name}.log"
        command = [sys.executable, "-m", "evdistill_core", name, *arguments]
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches us alone, and we end the children in order.
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _LAUNCH, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGTERM)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raise ChildError when it has ended."""
        if not self.is_running:
            raise ChildError(
                f"evdistill {self._name} ended too early, exit code {self._process.returncode}: "
                f"{self.last_words()}"
            )

    def require_success(self) -> None:
        """Raise ChildError when it ended with another exit code than 0."""
        if self._process.returncode != 0:
            raise ChildError(
                f"evdistill {self._name} failed, exit code {self._process.returncode}: "
                f"{self.last_words()}"
            )

    def last_words(self) -> str:
        """Return the last lines of what it printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "nothing"

    def lines(self, beginning: str) -> list[str]:
        """Return the lines that it has printed so far and that begin so."""
        text = self._log.read_text(errors="replace")
        return [line for line in text.splitlines() if line.startswith(beginning)]

    def peak_memory_mb(self) -> float:
        """Return its largest resident memory so far, MB of 1e6 bytes; 0 where unknown."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0.0
        peak = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peak[0].split()[1]) * 1024 / 1e6 if peak else 0.0

    def stop(self, number: signal.Signals) -> None:
        """Send a signal and wait; kill it when it does not end. Idempotent."""
        if self.is_running:
            self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

"""The process of an rclpy node: signals end it in order, whenever they come.

Imports nothing heavy: a signal that comes while the node's modules are being imported, which takes
seconds, must find somebody who listens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.signals import SIGNALS, StopSignals

STARTING_S = 2.0
"""A start that goes on for so long after a signal is cut short; `ros2 launch` waits 5 s."""


class Ending(StopSignals):
    """Signals that end a node in order once it works, and soon while it is still starting.

    The first start compiles kernels, which takes longer than `ros2 launch` and docker wait. Until
    then there is nothing to put away.

    Attributes:
        has_started: to be set when there is something to put away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_started = threading.Event()
        self.call(self._end_a_start)

    def _end_a_start(self) -> None:
        if not self.has_started.wait(STARTING_S):
            os._exit(0)


@contextlib.contextmanager
def ordered_end() -> Iterator[Ending]:
    """Listen to SIGINT and SIGTERM until the end of the process; later ones change nothing."""
    signals = Ending()
    with signals:
        try:
            yield signals
        finally:  # leaving the block waits for the thread that counts the time of a start
            signals.has_started.set()
    # `ros2 launch` may deliver a signal twice: the second must not cut the end of Python short.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def initialise(args: Sequence[str] | None) -> None:
    """Start rclpy without its own signal handlers.

    Those end the context at once, also while a callback publishes or a node is being put away;
    that then fails with an RCLError.

    Raises:
        ConfigError: what stands behind ``--ros-args`` is refused.
    """
    import rclpy  # noqa: PLC0415 - heavy, see above
    from rclpy.signals import SignalHandlerOptions  # noqa: PLC0415

    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # RCLError
        said = str(error).split(". Error:")[0].removeprefix("failed to initialize rcl: ")
        raise ConfigError(f"ROS refuses its arguments: {said}") from error


def spin(executor: Any, signals: Ending) -> None:
    """Serve an executor's nodes until a signal comes."""
    from rclpy.task import Future  # noqa: PLC0415 - heavy, see above

    signals.has_started.set()
    ended = Future()
    signals.call(lambda: ended.set_result(None))
    executor.spin_until_future_complete(ended)

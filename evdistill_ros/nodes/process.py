"""The process of an rclpy node: signals end it in order, whenever they come.

Imports nothing heavy: a signal that comes while the node's modules are being imported, which takes
seconds, must find somebody who listens.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.signals import SIGNALS, StopSignals


@contextlib.contextmanager
def ordered_end() -> Iterator[StopSignals]:
    """Listen to SIGINT and SIGTERM until the end of the process; later ones change nothing."""
    with StopSignals() as signals:
        yield signals
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


def spin(executor: Any, signals: StopSignals) -> None:
    """Serve an executor's nodes until a signal comes."""
    from rclpy.task import Future  # noqa: PLC0415 - heavy, see above

    ended = Future()
    signals.call(lambda: ended.set_result(None))
    executor.spin_until_future_complete(ended)

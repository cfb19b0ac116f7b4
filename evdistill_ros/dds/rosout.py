"""Python logging to ``/rosout``, where ``ros2 topic echo /rosout`` and rqt_console read it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from evdistill_core.messages.standard import Log, Time
from evdistill_ros import qos
from evdistill_ros.dds.library import DdsError
from evdistill_ros.dds.node import DdsNode

ROSOUT_TOPIC = "/rosout"


class RosoutHandler(logging.Handler):
    """Publishes log records as ``rcl_interfaces/msg/Log`` under the name of a node.

    Python's levels and those of ROS have the same names and numbers (10 debug .. 50 fatal). The
    handler does not close the node. After the node is closed it drops records.

    Args:
        node: in the graph.
        now_ns: time of the records; the host's unless told otherwise.
    """

    def __init__(self, node: DdsNode, now_ns: Callable[[], int] = time.time_ns) -> None:
        super().__init__()
        self._now_ns = now_ns
        # rcl names a logger after its node, with dots for slashes.
        self._name = node.fully_qualified_name.strip("/").replace("/", ".")
        self._publisher = node.create_publisher(ROSOUT_TOPIC, Log.TYPE, qos.ROSOUT)
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Publish one record; what DDS itself logs meanwhile is left out."""
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self._publisher.publish(self._message(record).serialize())
        except DdsError:
            return  # the node has left: standard error still has the record
        except ValueError:
            self.handleError(record)
        finally:
            self._busy.now = False

    def close(self) -> None:
        """Leave the topic."""
        self._publisher.close()
        super().close()

    def _message(self, record: logging.LogRecord) -> Log:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        return Log(
            stamp=Time.from_ns(self._now_ns()),
            level=level,
            name=self._name,
            msg=record.getMessage(),
            file=record.pathname,
            function=record.funcName or "",
            line=record.lineno,
        )

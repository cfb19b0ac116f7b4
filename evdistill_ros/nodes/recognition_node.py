"""The rclpy recognition node: events in, classes out; see ``config/recognition.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

from evdistill_core.perception.tasks import RECOGNITION
from evdistill_ros.nodes.perception_node import run_node


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(RECOGNITION, args)


if __name__ == "__main__":
    main()

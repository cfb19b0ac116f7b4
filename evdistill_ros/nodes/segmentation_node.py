"""The rclpy segmentation node: events in, masks and detections out; see ``config/seg.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

from evdistill_core.perception.tasks import SEGMENTATION
from evdistill_ros.nodes.perception_node import run_node


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    run_node(SEGMENTATION, args)


if __name__ == "__main__":
    main()

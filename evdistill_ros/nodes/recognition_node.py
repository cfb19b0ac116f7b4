"""The rclpy recognition node: events in, classes out; see ``config/recognition.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evdistill_ros.nodes.process import ordered_end


def main(args: Sequence[str] | None = None) -> None:
    """Run the node until it is told to stop."""
    with ordered_end() as signals:
        from evdistill_core.perception.tasks import RECOGNITION  # noqa: PLC0415 - see ordered_end
        from evdistill_ros.nodes.perception_node import run_node  # noqa: PLC0415

        code = run_node(RECOGNITION, signals, args)
    sys.exit(code)


if __name__ == "__main__":
    main()

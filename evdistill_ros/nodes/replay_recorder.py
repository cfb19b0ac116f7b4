"""The program ``replay_recorder`` of replay.launch.py, see ``replay_recording``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evdistill_ros.nodes.process import initialise, ordered_end


def main(args: Sequence[str] | None = None) -> None:
    """Record until the replay is over, then report; interrupted, nothing is left."""
    code = 0
    with ordered_end() as signals:
        import rclpy  # noqa: PLC0415 - see ordered_end

        from evdistill_core.foundation.errors import EvdistillError  # noqa: PLC0415
        from evdistill_ros.nodes.replay_recording import record_replay  # noqa: PLC0415

        try:
            initialise(args)
            record_replay(signals)
        except KeyboardInterrupt:
            code = 130
        except EvdistillError as error:
            print(f"replay_recorder: error: {error}", file=sys.stderr)  # noqa: T201
            code = error.exit_code
        finally:
            rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()

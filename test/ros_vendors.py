"""Which RMW implementations the tests on a real ROS 2 run under."""

import os
from pathlib import Path

KNOWN = ("rmw_cyclonedds_cpp", "rmw_fastrtps_cpp")
LEASE_S = {"rmw_cyclonedds_cpp": 10.0, "rmw_fastrtps_cpp": 20.0}
"""After which DDS forgets a participant that says nothing."""


def vendors() -> list[str]:
    """Return the one in the environment, else all that are installed; Cyclone where none is."""
    chosen = os.environ.get("RMW_IMPLEMENTATION", "")
    if chosen:
        return [chosen]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    prefixes += sorted(map(str, Path("/opt/ros").glob("*")))
    shares = [Path(p) / "share" for p in prefixes if p]
    return [rmw for rmw in KNOWN if any((s / rmw).is_dir() for s in shares)] or [KNOWN[0]]

"""DDS domains for tests, which may run in several processes at once."""

import os

from evdistill_ros.standalone.own_domain import DOMAINS, free_domain


def domain_of_a_test() -> int:
    """Return a domain that nobody is in, and that no other process of this run will take."""
    # pytest-xdist's names of this process and their number. The demo, of which tests start some,
    # draws from DOMAINS.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return free_domain(range(2 + process, DOMAINS[0], count))

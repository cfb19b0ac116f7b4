"""A DDS domain of our own, on this machine alone, for a graph that nobody else should hear."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evdistill_core.foundation.errors import ConfigError

# Domains above 101 meet the ports that Linux gives away; people take the low numbers.
DOMAINS = range(52, 102)
_DISCOVERY = ("CYCLONEDDS_URI", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY", "RMW_IMPLEMENTATION")


@contextmanager
def own_domain() -> Iterator[int]:
    """Put this process and its children into a domain on loopback that nobody else is in.

    Raises:
        ConfigError: see ``free_domain``.
    """
    before = dict(os.environ)
    mine = before.get("ROS_DOMAIN_ID", "")
    number = free_domain([n for n in DOMAINS if str(n) != mine])
    for name in _DISCOVERY:
        os.environ.pop(name, None)
    os.environ["ROS_DOMAIN_ID"] = str(number)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    try:
        yield number
    finally:
        os.environ.clear()
        os.environ.update(before)


def free_domain(numbers: Sequence[int] = DOMAINS) -> int:
    """Return, by chance, one of these domains whose first ports nobody on this machine has.

    Raises:
        ConfigError: all of them are taken.
    """
    for number in random.sample(numbers, len(numbers)):  # no secret: any will do
        if _is_free(number):
            return number
    raise ConfigError(
        f"all DDS domains in {min(numbers)} .. {max(numbers)} are taken on this machine: end the "
        "processes of ROS that are left over"
    )


def _is_free(number: int) -> bool:
    # Where a domain announces itself and where its first participant listens (DDSI-RTPS 2.5,
    # 9.6.2.3); others may share the first port, but not with us, who do not ask to share.
    for offset in (0, 10):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7400 + 250 * number + offset))
            except OSError:
                return False
    return True

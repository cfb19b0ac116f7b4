"""A DDS domain that nobody on this machine is in."""

import random
import socket


def free_domain() -> int:
    """Return the number of a domain whose first port is free.

    A random number alone meets, once in some ninety times, a domain that an earlier test of this
    process, or a process that does not want to die, has not left.
    """
    numbers = list(range(10, 101))  # above, the ports of DDS meet those that the system gives away
    random.SystemRandom().shuffle(numbers)
    return next(n for n in numbers if _free(n))


def _free(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Where a domain's first participant listens (DDSI-RTPS 2.5, 9.6.2.3).
            probe.bind(("", 7400 + 250 * number + 10))
        except OSError:
            return False
    return True

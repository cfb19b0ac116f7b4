"""How the C library gives memory back to the system."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 1 << 25  # the most that glibc takes for M_MMAP_THRESHOLD


def keep_freed_memory() -> bool:
    """Let arrays of up to 32 MB reuse freed memory instead of asking the system for new pages.

    By default glibc gives a few megabytes that are free back to the system at once, and every page
    of the next array costs an interrupt when it is first written to. A window of a large sensor
    takes a dozen arrays of a megabyte: without this, a tenth of the CPU time of a run goes there.
    Up to 64 MB that are free stay with the process.

    Returns:
        Whether the C library has such a setting (glibc has).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) and mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)
    )

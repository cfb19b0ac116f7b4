"""What somebody may have meant who wrote an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'voxel'?"``, or ``""`` where no known name is close.

    Case and the kind of dash do not count: ``Learning-Rate`` is close to ``learning_rate``.

    Args:
        name: what was written.
        known: the names that exist.
    """
    by_folded = {_folded(k): k for k in known}
    close = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]!r}?" if close else ""


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")

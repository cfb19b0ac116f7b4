"""What somebody may have meant who wrote an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

#: What people write for something that has another name here.
_OTHER_WORDS = {"gpu": "cuda"}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'voxel'?"``, or ``""`` where no known name is close.

    Case and the kind of dash do not count: ``Learning-Rate`` is close to ``learning_rate``.

    Args:
        name: what was written.
        known: the names that exist.
    """
    close = _closest(name, known)
    return f"; did you mean {close!r}?" if close is not None else ""


def near_path(path: Path) -> str:
    """Return ``"; did you mean 'a/street.mcap'?"``, or ``""`` where nothing beside it is close.

    Args:
        path: one that does not exist.
    """
    try:
        beside = {p.name: str(p) for p in path.parent.iterdir()}
    except OSError:
        return ""
    close = _closest(path.name, beside, cutoff=0.75)  # endings alike make any two names alike
    return f"; did you mean {beside[close]!r}?" if close is not None else ""


def _closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    by_folded = {_folded(k): k for k in known}
    other = _OTHER_WORDS.get(_folded(name))
    if other is not None and other in by_folded:
        return by_folded[other]
    close = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")

"""Writers of files that hold events alone, by the ending of their name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Triggers
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.encoders.evt3 import has_word_for
from evdistill_core.recordings.writers.hdf5 import DsecWriter
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.recordings.writers.raw import RawWriter
from evdistill_core.recordings.writers.text import TextWriter

PlainWriter = NpzWriter | DsecWriter | RawWriter | TextWriter
_WRITERS: Mapping[str, type[PlainWriter]] = {
    ".npz": NpzWriter,
    ".h5": DsecWriter,
    ".hdf5": DsecWriter,
    ".raw": RawWriter,
    ".txt": TextWriter,
    ".csv": TextWriter,
}
PLAIN_SUFFIXES = tuple(_WRITERS)


def plain_writer(target: Path, *, width: int, height: int) -> PlainWriter:
    """Return the writer for a file, to be used in a with block.

    Args:
        target: its suffix is one of ``PLAIN_SUFFIXES``.
        width: columns of the sensor.
        height: rows of the sensor.
    """
    return _WRITERS[target.suffix](target, width=width, height=height)


def held_edges(target: Path, triggers: Triggers) -> Triggers:
    """Return the trigger edges that a format has a place for."""
    if target.suffix == ".raw":
        return select(triggers, has_word_for(triggers))
    if target.suffix in {".txt", ".csv"}:
        return select(triggers, np.zeros(len(triggers), np.bool_))
    return triggers

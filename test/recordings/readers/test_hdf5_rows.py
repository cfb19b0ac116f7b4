"""Rows of events in HDF5: chunks that a damaged file claims."""

from types import SimpleNamespace

import numpy as np
import pytest

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.hdf5_rows import EcfRows

ROW = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])


class Table:
    """A dataset of one chunk of ten rows whose bytes are unpacked already."""

    chunks = (10,)
    dtype = ROW

    def __init__(self, rows, claims=None):
        data = np.zeros(rows, ROW).tobytes()
        size = len(data) if claims is None else claims
        self.id = SimpleNamespace(
            get_chunk_info_by_coord=lambda _: SimpleNamespace(size=size),
            read_direct_chunk=lambda _: (1, data),
        )

    def __len__(self):
        return 10


def test_a_whole_chunk_is_read():
    t, _, _, _ = EcfRows(Table(10)).read(2, 7)
    assert len(t) == 5


def test_a_chunk_that_lacks_events_is_no_silent_loss():
    with pytest.raises(RecordingError, match="chunk 0 of the events holds 4 of 10 events: damaged"):
        EcfRows(Table(4)).read(0, 10)


def test_a_size_that_no_file_has_is_not_allocated():
    with pytest.raises(RecordingError, match="claims 1099511627776 bytes: damaged"):
        EcfRows(Table(10, claims=1 << 40)).read(0, 10)

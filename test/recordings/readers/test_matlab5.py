"""Our reader of Matlab 5 files beside scipy's writer, and what scipy's reader dies of."""

import struct

import numpy as np
import pytest

from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.readers.matlab5 import load_variables

scipy_io = pytest.importorskip("scipy.io")
KINDS = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 3, 4), (0, 4), (1, 300)])
def test_numbers_of_every_class_and_shape(tmp_path, packed, shape):
    rng = np.random.default_rng(0)
    written = {f"a_{kind}": (rng.random(shape) * 100).astype(kind) for kind in KINDS}
    scipy_io.savemat(tmp_path / "a.mat", written, do_compression=packed)
    found = load_variables(tmp_path / "a.mat")
    assert found.keys() == written.keys()
    for name, value in written.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_whole_doubles_that_are_stored_narrow_stay_doubles(tmp_path):
    """Matlab writes doubles that are whole as bytes; scipy's writer does not, so by hand."""
    body = struct.pack("<IIII", 6, 8, 6, 0)  # flags: class double
    body += struct.pack("<IIii", 5, 8, 1, 3)
    body += struct.pack("<HHcccc", 1, 1, b"a", b"\0", b"\0", b"\0")
    body += struct.pack("<HHBBBB", 2, 3, 7, 8, 255, 0)
    head = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 14, len(body)) + body)
    found = load_variables(tmp_path / "a.mat")["a"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[7, 8, 255]])


def test_structs_give_their_numbers_and_the_rest_is_stepped_over(tmp_path):
    written = {
        "TD": {"x": np.arange(5)[:, None], "name": "text", "cells": np.array([1, "a"], object)},
        "several": np.array([(1,), (2,)], [("a", "f8")]),
        "text": "abc",
        "after": np.eye(2),
    }
    scipy_io.savemat(tmp_path / "a.mat", written)
    found = load_variables(tmp_path / "a.mat")
    assert found.keys() == {"TD", "after"}
    assert found["TD"].keys() == {"x"}
    np.testing.assert_array_equal(found["TD"]["x"], np.arange(5))
    np.testing.assert_array_equal(found["after"], np.eye(2))


def test_damage_gives_our_error_or_numbers(tmp_path):
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"TD": {"x": np.arange(9.0), "t": np.arange(9)}, "b": np.eye(4)})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        data = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(126, len(data), 2)
        data[at] = rng.integers(0, 256, 2)
        path.write_bytes(data.tobytes()[: int(rng.integers(len(data) // 2, len(data) + 1))])
        try:
            load_variables(path)
        except RecordingError:
            refused += 1
    assert refused > 50

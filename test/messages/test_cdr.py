import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.cdr import CdrReader, CdrWriter


def test_alignment_counts_from_behind_the_header():
    writer = CdrWriter("T")
    writer.scalar("B", 1, "a")
    writer.scalar("d", 2.0, "b")
    writer.scalar("H", 3, "c")
    data = writer.finish()
    assert data[:4] == b"\0\1\0\0"
    assert data[4:] == b"\1" + bytes(7) + b"\0\0\0\0\0\0\0\x40" + b"\3\0" + bytes(2)
    reader = CdrReader(data, "T")
    assert [reader.scalar(c, c) for c in "BdH"] == [1, 2.0, 3]
    reader.finish()


def test_big_endian_is_read():
    reader = CdrReader(b"\0\0\0\0" + bytes([0, 0, 0, 5]) + b"\0\0\0\2a\0", "T")
    assert reader.scalar("I", "a") == 5
    assert reader.text("b") == "a"


@pytest.mark.parametrize("header", [b"", b"\0", b"\0\1", b"\0\3\0\0", b"\1\0\0\0", b"\0\2\0\0abcd"])
def test_other_representations_are_refused(header):
    with pytest.raises(MessageError, match="encapsulation header must be"):
        CdrReader(header, "T")


def test_errors_name_type_field_and_offset():
    reader = CdrReader(b"\0\1\0\0\1\0\0\0\xff\xff\xff\x7f", "pkg/msg/T")
    reader.scalar("I", "a")
    with pytest.raises(MessageError, match=r"pkg/msg/T\.name: needs 2147483647 bytes at offset 12"):
        reader.text("name")
    with pytest.raises(MessageError, match=r"T\.v: cannot hold -1"):
        CdrWriter("T").scalar("I", -1, "v")
    with pytest.raises(MessageError, match=r"T\.v: cannot hold 'x'"):
        CdrWriter("T").scalar("I", "x", "v")  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="8 bytes left over at offset 4"):
        CdrReader(b"\0\1\0\0" + bytes(8), "T").finish()


@given(st.text())
def test_every_text_survives_or_is_replaced(text):
    writer = CdrWriter("T")
    writer.text(text)
    read = CdrReader(writer.finish(), "T").text("t")
    assert read == text.encode("utf-8", errors="replace").decode()


def test_text_that_is_not_utf8_or_lacks_its_zero_is_still_read():
    assert CdrReader(b"\0\1\0\0\3\0\0\0a\xff\0\0", "T").text("t") == "a�"
    assert CdrReader(b"\0\1\0\0\2\0\0\0ab", "T").text("t") == "ab"
    assert CdrReader(b"\0\1\0\0\0\0\0\0", "T").text("t") == ""


def test_octets_are_a_view():
    data = bytearray(b"\0\1\0\0abcd")
    view = CdrReader(data, "T").octets(4, "o")
    data[4] = ord("z")
    assert bytes(view) == b"zbcd"

"""How cameras are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.cameras.address import CameraAddress
from evdistill_core.foundation.errors import CameraError


@pytest.mark.parametrize(
    "text",
    [
        "inivation", "inivation:00000402", "tcp://127.0.0.1:7777", "tcp://robot.local:7777,7778",
        "tcp://[::1]:7777", "unix:///run/camera.sock", "unix:///a,/b",
    ],
)  # fmt: skip
def test_written_and_read(text):
    assert str(CameraAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "inivaton", "Inivation", "inivation:", "tcp://", "tcp://host", "tcp://host:",
        "tcp:7777",
        "tcp://:7777", "tcp://host:x", "tcp://host:0", "tcp://host:65536", "tcp://host:7777,",
        "tcp://host:1,2,3,4,5", "unix://relative", "unix://", "/dev/video0", "udp://host:1",
        "tcp://host:²",
    ],
)  # fmt: skip
def test_refused_with_the_text_and_the_forms(text):
    with pytest.raises(CameraError) as error:
        CameraAddress.parse(text)
    assert text in str(error.value)


@given(st.text(max_size=40) | st.text("tcp:/inivauxo0123456789,.[]", max_size=30))
def test_any_text_is_read_back_or_refused(text):
    try:
        address = CameraAddress.parse(text)
    except CameraError:
        return
    assert CameraAddress.parse(str(address)) == address

"""Our bytes against those that a real ROS 2 makes of the same messages."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]

AGAIN = """
import importlib, sys
from pathlib import Path
from rclpy.serialization import deserialize_message, serialize_message
for path in sorted(Path(sys.argv[1]).iterdir()):
    _, package, name = path.name.split("-")
    message_class = getattr(importlib.import_module(package + ".msg"), name)
    ours = path.read_bytes()
    theirs = bytes(serialize_message(deserialize_message(ours, message_class)))
    assert theirs.ljust(len(ours), b"\\0") == ours, path.name
    print(path.name)
"""


def samples():
    path = Path(__file__).parents[1] / "messages" / "test_messages.py"
    spec = importlib.util.spec_from_file_location("message_samples", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SAMPLES


def test_ros_reads_every_message_and_writes_the_same_bytes(ros, tmp_path):
    messages = samples()
    for i, message in enumerate(messages):
        package, _, name = message.TYPE.split("/")
        (tmp_path / f"{i:02}-{package}-{name}").write_bytes(message.serialize())
    process = ros.python(AGAIN, tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    assert len(out.splitlines()) == len(messages)

"""A moving square as packets, a student without a network, and a real one that is tiny."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.events.packet import Packet
from evdistill_core.foundation.labels import ClassInfo, ClassTable
from evdistill_core.inference.runner import Output
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.messages.standard import Header, Time
from evdistill_core.perception.front_end import warm_up
from evdistill_core.perception.parameters import SegmentationParameters
from evdistill_core.recordings.encoders.libcaer_cmp import encode_libcaer_cmp
from evdistill_core.representations import InputSpec

T0_NS = 1_700_000_000_000_000_000
PACKET_US = 10_000


class Scene:
    """A square that moves to and fro over a dark frame, as packets of 10 ms."""

    def __init__(self, width: int = 64, height: int = 48, seed: int = 0) -> None:
        self.width = width
        self.height = height
        self._seed = seed

    def events(self, start_us: int, end_us: int, per_packet: int = 200) -> Events:
        """Events at random places of the square's outline, in order of time."""
        rng = np.random.default_rng([self._seed, start_us])
        count = per_packet * max(1, (end_us - start_us) // PACKET_US)
        t_us = np.sort(rng.integers(start_us, end_us, count))
        left = 5 + abs((t_us / 20_000).astype(int) % 60 - 30)  # there and back
        x = left + rng.integers(0, 16, count)
        y = 10 + rng.integers(0, 16, count)
        return Events.from_columns(
            x, y, t_us, rng.integers(0, 2, count), width=self.width, height=self.height
        )

    def packet(self, index: int, *, seq: int | None = None, t0_us: int = 1_000_000) -> Packet:
        """The index-th EventPacket; stamps follow the sequence number, not sensor time."""
        seq = index if seq is None else seq
        start_us = t0_us + index * PACKET_US
        events = self.events(start_us, start_us + PACKET_US)
        stamp_ns = T0_NS + seq * PACKET_US * 1000
        message = EventPacket(
            Header(Time.from_ns(stamp_ns), "camera"),
            self.height,
            self.width,
            seq,
            start_us * 1000,
            "libcaer_cmp",
            False,
            encode_libcaer_cmp(events, start_us),
        )
        return Packet(EventPacket.TYPE, message.serialize(), stamp_ns, "/event_camera/events")

    def array_packet(self, index: int) -> Packet:
        """The same events as a dvs_msgs/EventArray, which has no sequence number."""
        start_us = 1_000_000 + index * PACKET_US
        e = self.events(start_us, start_us + PACKET_US)
        stamp = Time.from_ns(T0_NS + index * PACKET_US * 1000)
        block = EventBlock.pack(e.x, e.y, e.t_us * 1000, e.p)
        message = EventArray(Header(stamp, "dvs"), self.height, self.width, block)
        return Packet(EventArray.TYPE, message.serialize(), stamp.to_ns())


class StubRunner:
    """Class 1 where the input is not zero, without a network."""

    description = "stub"
    size_multiple = 8
    output_stride = 4
    is_recurrent = False

    def reset(self):
        """Nothing to forget."""

    def __init__(self) -> None:
        self.runs = 0
        self.before_run = lambda: None

    def run(self, input_chw):
        self.before_run()
        self.runs += 1
        _, height, width = input_chw.shape
        activity = np.abs(input_chw).sum(0).reshape(height // 4, 4, width // 4, 4).mean((1, 3))
        return np.stack([np.full_like(activity, 0.05), 4 * activity]).astype(np.float32)

    def run_whole(self, input_chw):
        return Output(self.run(input_chw))

    def warm_up(self, height, width):
        self.run(np.zeros((5, height, width), np.float32))


STUB_CLASSES = ClassTable(
    (ClassInfo("still", (90, 90, 90)), ClassInfo("mover", (0, 0, 142), is_thing=True))
)


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def scene_type():
    return Scene


def make_stub_student():
    info = SimpleNamespace(input=InputSpec(window_us=50_000, size_multiple=8), classes=STUB_CLASSES)
    return SimpleNamespace(info=info, path=Path("stub.evstudent"))


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Compile the kernels first: with an empty cache that takes longer than ``stop`` waits."""
    warm_up(make_stub_student(), StubRunner(), SegmentationParameters(), size=(48, 64))


@pytest.fixture
def stub_runner():
    return StubRunner()


@pytest.fixture
def stub_student():
    return make_stub_student()

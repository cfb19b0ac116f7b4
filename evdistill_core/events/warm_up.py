"""Compiling ahead of the first message."""

from __future__ import annotations

import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.decoders import KNOWN_ENCODINGS, make_decoder
from evdistill_core.events.filters import chain
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder, StreamCounters
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket


def warm_up() -> None:
    """Run every kernel of this layer once on nothing much.

    The first call of a kernel compiles it (seconds) or loads it from the cache on disk (tens of
    milliseconds). A live program calls this before it subscribes; otherwise the first packets wait.
    """
    for encoding in KNOWN_ENCODINGS:
        message = EventPacket(height=1, width=1, encoding=encoding, events=bytes(8))
        PacketDecoder().push(Packet(EventPacket.TYPE, message.serialize(), 0))
        make_decoder(encoding, width=1, height=1).decode_run([bytes(8)] * 2, [0, 0])
    zero, one = np.zeros(2, np.uint16), np.zeros(2, np.uint8)
    block = EventBlock.pack(zero, zero, np.zeros(2, np.int64), one)
    array = EventArray(height=1, width=1, events=block)
    PacketDecoder().push(Packet(EventArray.TYPE, array.serialize(), 0))
    watch = TimeWatch(StreamCounters())
    falling = np.array([1_000_000, 0], np.int64)
    watch.split(DecodedPacket(Events(zero, zero, falling, one, 1, 1), Triggers.empty(), 0, "", ""))
    assembler = WindowAssembler(WindowSpec(1))
    for t_us in ([0, 2], [1, 3]):
        assembler.push(Events(zero, zero, np.array(t_us, np.int64), one, 1, 1))
    chain.warm_up()

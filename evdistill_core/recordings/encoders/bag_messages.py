"""The messages of a bag, from events and images: for `convert`, `record` and the live node."""

from __future__ import annotations

from dataclasses import dataclass

from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.standard import Header, Image, Time
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.encoders.packets import EncodedPacket


@dataclass(frozen=True)
class BagMessages:
    """Makes messages of one camera.

    Attributes:
        encoding: of the events, as the packets were encoded.
        frame_id: coordinate frame in the headers.
    """

    encoding: str
    frame_id: str

    def events(self, packet: EncodedPacket, seq: int, stamp_ns: int) -> bytes:
        """Return a serialized EventPacket."""
        message = EventPacket(
            header=self._header(stamp_ns),
            height=packet.height,
            width=packet.width,
            seq=seq,
            time_base=packet.time_base_ns,
            encoding=self.encoding,
            events=packet.payload,
        )
        return message.serialize()

    def picture(self, frame: Frame, stamp_ns: int) -> bytes:
        """Return a serialized Image."""
        encoding = "mono8" if frame.image.ndim == 2 else "rgb8"
        return Image.from_array(self._header(stamp_ns), frame.image, encoding).serialize()

    def _header(self, stamp_ns: int) -> Header:
        return Header(Time.from_ns(stamp_ns), self.frame_id)

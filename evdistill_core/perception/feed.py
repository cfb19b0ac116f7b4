"""A recording in the order in which a camera would have sent it."""

from __future__ import annotations

from collections.abc import Iterator

from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket
from evdistill_core.recordings.base import Frame, Recording


def in_order(
    recording: Recording, start_us: int | None = None, end_us: int | None = None
) -> Iterator[Packet | DecodedPacket | Frame]:
    """Yield events and camera images; images come before the events of the same moment.

    Args:
        recording: an open one.
        start_us: leave out events before this sensor time; None: from the beginning.
        end_us: leave out events from this sensor time on; None: to the end.

    Yields:
        Of a whole rosbag2 its messages as they are, so that the decoders of the live path read
        them. Of a span, and of other files, decoded batches and frames.

    Raises:
        RecordingError: as ``Recording.batches``.
    """
    info = recording.info
    if gives_messages(recording, start_us, end_us):
        topics = [info.topic] + ([info.frame_topic] if info.frame_topic else [])
        yield from recording.packets(topics)
        return
    frames = recording.frames()
    frame = next(frames, None)
    is_empty = True
    for batch in recording.batches(start_us, end_us):
        is_empty = is_empty and not len(batch.events)
        while frame is not None and frame.stamp_ns <= batch.stamp_ns:
            yield frame
            frame = next(frames, None)
        yield batch.decoded(has_host_stamp=recording.has_host_stamps)
    if is_empty and (start_us, end_us) != (None, None):
        raise recording.nothing_in_span()


def gives_messages(recording: Recording, start_us: int | None, end_us: int | None) -> bool:
    """Tell whether ``in_order`` gives messages as they are, which the recording does not count."""
    whole = start_us is None and end_us is None
    return whole and recording.info.format.startswith("rosbag2")

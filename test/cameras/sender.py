"""A camera of the tests: plays an AEDAT4 file through dv-processing's own network writer.

A process of its own, since dv-processing may crash or hang. Prints ``ready``, waits for its
listeners (with ``--hold``: and for a line on its input), sends, prints ``sent``, and stays until
its input is closed or it is killed.
"""

import argparse
import sys
import time

import dv_processing as dv


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--events", required=True, help="socket path or port")
    parser.add_argument("--frames")
    parser.add_argument("--triggers")
    parser.add_argument("--compression", default="LZ4")
    parser.add_argument("--pace-s", type=float, default=0.0, help="pause after each batch")
    parser.add_argument("--batches", type=int, default=sys.maxsize)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--hold", action="store_true", help="send when a line comes in")
    arguments = parser.parse_args()
    source = dv.io.MonoCameraRecording(dv.Path(arguments.file))
    name = source.getCameraName()
    size = source.getEventResolution()
    compression = getattr(dv.CompressionType, arguments.compression)
    events = writer(
        arguments.events, dv.io.Stream.EventStream(0, "events", name, size), compression
    )
    writers = [events]
    frames = triggers = None
    if arguments.frames:
        stream = dv.io.Stream.FrameStream(0, "frames", name, source.getFrameResolution())
        frames = writer(arguments.frames, stream, compression)
        writers.append(frames)
    if arguments.triggers:
        stream = dv.io.Stream.TriggerStream(0, "triggers", name)
        triggers = writer(arguments.triggers, stream, compression)
        writers.append(triggers)
    say("ready")
    while not all(w.getClientCount() for w in writers):
        time.sleep(0.005)
    if arguments.hold:
        sys.stdin.readline()
    for _ in range(arguments.loops):
        source.resetSequentialRead()
        send(source, arguments, events, frames, triggers)
    say("sent")
    sys.stdin.read()


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def send(source, arguments, events, frames, triggers):
    sent = 0
    while sent < arguments.batches and (batch := source.getNextEventBatch()) is not None:
        room(events)
        events.writeEvents(batch)
        sent += 1
        time.sleep(arguments.pace_s)
    while frames is not None and (frame := source.getNextFrame()) is not None:
        room(frames)
        frames.writeFrame(frame)
    while triggers is not None and (edges := source.getNextTriggerBatch()) is not None:
        room(triggers)
        triggers.writeTriggers(edges)


def room(writer):
    """Wait until the writer takes more: it throws away what its queue has no room for."""
    while writer.getQueuedPacketCount() > 4:
        time.sleep(0.001)


def writer(place, stream, compression):
    stream.setCompression(compression)
    if place.isdigit():
        return dv.io.NetworkWriter("127.0.0.1", int(place), stream)
    return dv.io.NetworkWriter(dv.Path(place), stream)


if __name__ == "__main__":
    main()

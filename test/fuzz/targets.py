"""What is fuzzed, and what must hold of every input, however damaged.

An input may be refused with an ``EvdistillError`` or give events. It may not raise anything else,
give an event outside the frame, a falling time inside a window, or a window across a break; nor
take longer or allocate more than the bounds below.
"""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mutations
import numpy as np
import seeds

from evdistill_core.events.array import Events
from evdistill_core.events.clock import SensorClock
from evdistill_core.events.decoders import KNOWN_ENCODINGS, make_decoder
from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.events.filters import EventFilters, FilterConfig
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket, PacketDecoder
from evdistill_core.events.time_watch import TimeWatch
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.messages.event_messages import EventPacket
from evdistill_core.messages.images import check_image, decode_image
from evdistill_core.messages.standard import CompressedImage, Image
from evdistill_core.recordings.opening import open_recording

#: Columns that a decoder allocates, per byte of payload it was given, and besides. EVT3 packs 12
#: events of 13 bytes into 2 bytes; EVT2.1 may hold back 65,536 words until it knows their order.
DECODER_BYTES_PER_BYTE = 80
DECODER_BYTES = 65_536 * 8 * 55
#: What reading any file may take besides what the process had: one packet of 256 MiB, decompressed
#: beside its compressed bytes, and its events.
FILE_BYTES = 1 << 30
INPUT_S = 20.0
BATCH = 2000
BATCHES_READ = 300
SIZES = ((346, 260), (1280, 720), (1, 1), (8, 3), (MAX_SIDE, MAX_SIDE), (640, 480))
TIME_BASES = (0, 999, 10**15, 2**61, 2**62 - 1, 2**62, 2**63, 2**64 - 1)
Step = Callable[[np.random.Generator], int]


class FindingError(AssertionError):
    """Something that must not happen did."""


def check_picture(message: object) -> None:
    """Check that a message of an image is refused or gives one of its size."""
    if not isinstance(message, Image | CompressedImage):
        return
    check_image(message)
    pixels = decode_image(message)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2:] not in ((), (3,)):
        raise FindingError(f"a picture of {pixels.dtype} {pixels.shape}")
    if isinstance(message, Image) and pixels.shape[:2] != (message.height, message.width):
        raise FindingError(f"{message.width}x{message.height} became {pixels.shape}")


def check_events(events: Events) -> None:
    """Check what every consumer relies on."""
    n = len(events)
    if not n:
        return
    if not (len(events.x) == len(events.y) == len(events.p) == n):
        raise FindingError("columns of different length")
    if int(events.x.max()) >= events.width or int(events.y.max()) >= events.height:
        raise FindingError(f"an event lies outside {events.width}x{events.height}")
    if int(events.p.max()) > 1:
        raise FindingError(f"polarity {events.p.max()}")


@dataclass
class Tally:
    """What a run did."""

    packets: int = 0
    inputs: int = 0
    refused: int = 0
    events: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Target:
    """One thing to fuzz.

    Attributes:
        name: as on the command line.
        start: takes counts and a folder; returns what tests some inputs (all that is random in
            them comes from the generator that it is given, so that a step can be repeated), and
            what returns the input being tested.
    """

    name: str
    start: Callable[[Tally, Path], tuple[Step, Callable[[], bytes]]]


def decoder_target(encoding: str) -> Target:
    """Fuzz one decoder with batches of packets; its state crosses them."""

    def start(tally: Tally, _: Path) -> tuple[Step, Callable[[], bytes]]:
        mutator = mutations.PacketMutator(seeds.payloads()[encoding])
        current = [b""]

        def step(rng: np.random.Generator) -> int:
            width, height = SIZES[rng.integers(0, len(SIZES))]
            decoder = make_decoder(encoding, width=width, height=height)
            packets, lengths = mutator.batch(BATCH, rng)
            bases = rng.choice(np.array(TIME_BASES, object), BATCH)
            acts = rng.integers(0, 200, BATCH)
            parts: list[Events] = []
            given = 0
            for i in range(BATCH):
                current[0] = payload = packets[i, : lengths[i]].tobytes()
                if acts[i] == 0:
                    decoder.reset()
                elif acts[i] == 1:
                    decoder.invalidate(int(rng.integers(-(2**62), 2**62)))
                decoded = decoder.decode(payload, int(bases[i]))
                given += len(payload)
                if len(decoded.events):
                    parts.append(decoded.events)
                    room = decoded.events.t_us.base
                    took = 13 * (len(decoded.events) if room is None else len(room))
                    tally.peak_bytes = max(tally.peak_bytes, took)
                    if took > DECODER_BYTES_PER_BYTE * len(payload) + DECODER_BYTES:
                        raise FindingError(
                            f"{took} bytes allocated for a payload of {len(payload)}"
                        )
            _account(decoder, parts, given)
            tally.packets += BATCH
            tally.inputs += BATCH
            tally.events += sum(map(len, parts))
            return BATCH

        return step, lambda: current[0]

    return Target(f"decoder-{encoding}", start)


def _account(decoder: object, parts: list[Events], given: int) -> None:
    """Check all events of a batch at once, and that the counters tell the truth."""
    counters = decoder.counters  # type: ignore[attr-defined]
    if parts:
        check_events(Events.concatenate(parts))
    if counters.events != sum(map(len, parts)):
        raise FindingError(f"{counters.events} counted, {sum(map(len, parts))} given out")
    if min(vars(counters).values()) < 0:
        raise FindingError(f"a counter ran over: {counters}")
    most = 6 * given + 32 * 65_536
    if max(counters.out_of_frame, counters.discarded_before_sync, counters.backward_time) > most:
        raise FindingError(f"a counter exceeds what {given} bytes can hold: {counters}")


def stream_target() -> Target:
    """Fuzz everything between a topic and a window: CDR, decoders, clock, filters, windows."""

    def start(tally: Tally, _: Path) -> tuple[Step, Callable[[], bytes]]:
        pool = [(n, d) for n, several in seeds.messages().items() for d in several]
        plain = [d for _, d in pool]
        current = [b""]

        def take(
            part: DecodedPacket, assembler: WindowAssembler, filters: EventFilters,
            clock: SensorClock,
        ) -> None:  # fmt: skip
            check_events(part.events)
            windows = []
            if part.discontinuity:
                windows = assembler.flush()
                filters.reset()
            if len(part.events):
                clock.observe(int(part.events.t_us[0]), part.stamp_ns)
                windows += assembler.push(filters(part.events))
            if part.t_end_us is not None:
                windows += assembler.advance_to(part.t_end_us)
            for window in windows:
                _check_window(window.events, window.t_start_us, window.t_end_us)
                clock.to_host_ns(window.t_end_us)

        def step(rng: np.random.Generator) -> int:
            decoder, clock = PacketDecoder(), SensorClock()
            watch, can_wait = TimeWatch(decoder.counters), bool(rng.random() < 0.5)
            config = FilterConfig(
                hot_learn_ms=50, hot_min_hz=1.0, refractory_us=20, background_us=5000,
                max_events_per_s=200_000,
            )  # fmt: skip
            filters = EventFilters(config if rng.random() < 0.5 else FilterConfig())
            count = None if rng.random() < 0.5 else int(rng.integers(1, 300))
            assembler = WindowAssembler(WindowSpec(int(rng.integers(1, 100_000)), count))
            done = 0
            for _ in range(200):
                name, data = pool[rng.integers(0, len(pool))]
                if rng.random() < 0.8:
                    data = mutations.mutate(data, rng, plain)
                current[0] = data
                got = decoder.push(Packet(name, data, int(rng.integers(0, 2**62))))
                done += 1
                if got is None:
                    tally.refused += 1
                    continue
                for part in watch.split(got, can_wait=can_wait):
                    tally.events += len(part.events)
                    take(part, assembler, filters, clock)
            for part in watch.flush():
                take(part, assembler, filters, clock)
            _balance(assembler, filters, decoder)
            tally.packets += done
            tally.inputs += done
            return done

        return step, lambda: current[0]

    return Target("stream", start)


def _check_window(events: Events, start_us: int, end_us: int) -> None:
    check_events(events)
    if not start_us < end_us:
        raise FindingError(f"a window of {start_us} .. {end_us}")
    if len(events):
        t = events.t_us
        if int(t[0]) < start_us or int(t[-1]) >= end_us or np.any(t[1:] < t[:-1]):
            raise FindingError("times outside the window, or falling")


def _balance(assembler: WindowAssembler, filters: EventFilters, decoder: PacketDecoder) -> None:
    w, f = assembler.counters, filters.counters
    if w.pushed != w.used + w.late + w.discarded + w.pending:
        raise FindingError(f"events got lost in the windows: {w}")
    removed = f.outside_roi + f.hot_pixel + f.refractory + f.background + f.rate_limit
    if decoder.counters.events != w.pushed + removed:
        raise FindingError(f"events got lost between decoder and windows: {f}")


def cdr_target() -> Target:
    """Fuzz the parser of every message type."""

    def start(tally: Tally, _: Path) -> tuple[Step, Callable[[], bytes]]:
        pool = seeds.samples()
        plain = [d for _, d in pool]
        current = [b""]

        def step(rng: np.random.Generator) -> int:
            for _ in range(500):
                kind, seed = pool[rng.integers(0, len(pool))]
                current[0] = data = mutations.mutate(seed, rng, plain)
                try:
                    message = kind.parse(data)  # type: ignore[attr-defined]
                    check_picture(message)
                except EvdistillError:
                    tally.refused += 1
            tally.inputs += 500
            return 500

        return step, lambda: current[0]

    return Target("cdr", start)


def read_file(path: Path, tally: Tally) -> None:
    """Read a recording in every way that there is; ``EvdistillError`` refuses it."""
    with open_recording(path) as recording:
        _ = recording.info.warnings
        assembler = WindowAssembler(WindowSpec(50_000))
        for count, batch in enumerate(recording.batches()):
            check_events(batch.events)
            tally.events += len(batch.events)
            for window in assembler.push(batch.events):
                _check_window(window.events, window.t_start_us, window.t_end_us)
            if count > BATCHES_READ:
                break
        for count, frame in enumerate(recording.frames()):
            if frame.image.dtype != np.uint8 or frame.image.ndim not in (2, 3):
                raise FindingError(f"a picture of {frame.image.dtype} {frame.image.shape}")
            if count > BATCHES_READ:
                break
        for batch in recording.batches(5000, 20_000):
            check_events(batch.events)


def file_target(kind: str) -> Target:
    """Fuzz the reader of one file format; the peak of memory is measured input by input."""

    def start(tally: Tally, folder: Path) -> tuple[Step, Callable[[], bytes]]:
        every = seeds.files()
        seed, others = every[kind], list(every.values())
        path = folder / f"input-{kind}"
        current = [b""]

        def step(rng: np.random.Generator) -> int:
            current[0] = data = mutations.mutate(seed, rng, others)
            path.write_bytes(data)
            tracemalloc.start(1)
            # Not the clock's time: another process may have the processor meanwhile.
            began = time.process_time()
            try:
                read_file(path, tally)
            except EvdistillError:
                tally.refused += 1
            finally:
                took = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            tally.peak_bytes = max(tally.peak_bytes, took)
            if took > FILE_BYTES:
                raise FindingError(f"{took} bytes allocated for a file of {len(data)}")
            if (spent_s := time.process_time() - began) > INPUT_S:
                raise FindingError(f"took {spent_s:.1f} s")
            tally.inputs += 1
            return 1

        return step, lambda: current[0]

    return Target(f"file-{kind}", start)


def metadata_target() -> Target:
    """Fuzz the metadata.yaml of a bag's directory."""

    def start(tally: Tally, folder: Path) -> tuple[Step, Callable[[], bytes]]:
        seed = (seeds.GOLDEN / "libcaer_cmp_davis346_tags" / "metadata.yaml").read_bytes()
        extra = b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\n"
        bag = folder / "bag"
        bag.mkdir(exist_ok=True)
        (bag / "test_events_2_0.mcap").write_bytes(seeds.files()["mcap"])
        current = [b""]

        def step(rng: np.random.Generator) -> int:
            current[0] = mutations.mutate(seed, rng, [seed, extra])
            (bag / "metadata.yaml").write_bytes(current[0])
            try:
                read_file(bag, tally)
            except EvdistillError:
                tally.refused += 1
            tally.inputs += 1
            return 1

        return step, lambda: current[0]

    return Target("metadata", start)


def all_targets() -> dict[str, Target]:
    """Return every target by name."""

    def each() -> Iterator[Target]:
        for encoding in KNOWN_ENCODINGS:
            yield decoder_target(encoding)
        yield stream_target()
        yield cdr_target()
        for kind in seeds.files():
            yield file_target(kind)
        yield metadata_target()

    return {t.name: t for t in each()}


def atheris_entry(name: str, folder: Path) -> Callable[[bytes], None]:
    """Return what a coverage-guided fuzzer calls with each input of a target."""
    tally: Counter[str] = Counter()
    if name.startswith("decoder-"):
        encoding = name.removeprefix("decoder-")

        def decode(data: bytes) -> None:
            decoder = make_decoder(encoding, width=346, height=260)
            half = len(data) // 2
            parts = [decoder.decode(d, 10**15).events for d in (data[:half], data[half:])]
            _account(decoder, [p for p in parts if len(p)], len(data))

        return decode
    if name == "stream":

        def stream(data: bytes) -> None:
            got = PacketDecoder().push(Packet(EventPacket.TYPE, data, 1))
            if got is not None:
                check_events(got.events)

        return stream
    if name == "cdr":
        kinds = list(dict.fromkeys(kind for kind, _ in seeds.samples()))

        def parse(data: bytes) -> None:
            if not data:
                return
            try:
                message = kinds[data[0] % len(kinds)].parse(data[1:])  # type: ignore[attr-defined]
                check_picture(message)
            except EvdistillError:
                tally["refused"] += 1

        return parse
    path = folder / f"atheris-{name}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_file(path, Tally())
        except EvdistillError:
            tally["refused"] += 1

    return read

"""How fast each decoder is, in the same run as a memcpy of what it puts out.

    python benchmarks/decode.py [--events 1000000] [--repeats 30] [--json FILE] [--peers PYTHON]
        [--codecs DIR]

Synthetic streams of one million events (13 bytes each once decoded): `evt3` as single words and as
vector groups, `libcaer`, `libcaer_cmp` both ways, `mono`; EventArray messages of a few sizes with
all of ``PacketDecoder``, beside a memcpy of the messages; and, where the folder of real data is
there (EVDISTILL_TEST_DATA), the real EVT3 bag packet by packet. Ratios to memcpy carry over between
machines, times do not.

With ``--peers`` (the Python of an environment with any of the libraries in ``decode_peers.py``,
apart from ours) files are read by us and by each that can, in turn, and sums of what was read are
compared. With ``--codecs`` (headers of event_camera_codecs, see ``codecs_peer.py``) the drivers'
own C++ decoder gets the same bytes as ours in the same run, and all events are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import codecs_peer
import numpy as np

from evdistill_core.events.array import Events
from evdistill_core.events.decoders import make_decoder
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import PacketDecoder
from evdistill_core.events.window import WindowAssembler, WindowSpec
from evdistill_core.messages.event_messages import EventArray, EventBlock, EventPacket
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.mcap import McapWriter

WIDTH, HEIGHT = 1280, 720
BYTES_PER_EVENT = 13
EVENTS_PER_ROW = 8
REAL_BAGS = ("bags/evt3_vga_person", "bags/libcaer_cmp_davis346_tags")
REAL_FILES = (
    ("imx636_evt3.raw", "evt3"),
    ("gen3_evt2.raw", "evt2"),
    ("imx636_same_stream.dat", "dat"),
    ("davis346_robot_arm.aedat4", "aedat4"),
    ("davis346_street_short.aedat4", "aedat4"),
    ("atis_plane.es", "es"),
)


def evt3_words(count: int, rng: np.random.Generator) -> bytes:
    """Single words: a time and a row word before every eighth event, TIME_HIGH in between."""
    groups = count // EVENTS_PER_ROW
    words = np.empty((groups, EVENTS_PER_ROW + 3), np.uint16)
    t = np.arange(groups, dtype=np.int64)
    words[:, 0] = 0x8000 | (t >> 12 & 0xFFF)
    words[:, 1] = 0x6000 | (t & 0xFFF)
    words[:, 2] = rng.integers(0, HEIGHT, groups)
    x = rng.integers(0, WIDTH, (groups, EVENTS_PER_ROW))
    words[:, 3:] = 0x2000 | rng.integers(0, 2, x.shape) << 11 | x
    return words.astype("<u2").tobytes()


def evt3_vectors(count: int, rng: np.random.Generator) -> bytes:
    """Vector groups: base, 12, 12, 8, half of the pixels set, as a moving edge gives."""
    groups = count // 16
    words = np.empty((groups, 7), np.uint16)
    t = np.arange(groups, dtype=np.int64)
    words[:, 0] = 0x8000 | (t >> 12 & 0xFFF)
    words[:, 1] = 0x6000 | (t & 0xFFF)
    words[:, 2] = rng.integers(0, HEIGHT, groups)
    words[:, 3] = 0x3000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, WIDTH - 32, groups)
    for column, code, bits in ((4, 4, 12), (5, 4, 12), (6, 5, 8)):
        words[:, column] = code << 12 | rng.integers(0, 1 << bits, groups)
    return words.astype("<u2").tobytes()


def evt2(count: int, rng: np.random.Generator) -> bytes:
    """One 32 bit word an event, and the upper half of the time every 64 us."""
    t = np.arange(count, dtype=np.int64) // 4
    x, y, p = (rng.integers(0, n, count) for n in (WIDTH, HEIGHT, 2))
    words = p << 28 | (t & 63) << 22 | x << 11 | y
    starts = np.flatnonzero(np.diff(t >> 6, prepend=-1))
    highs = 8 << 28 | (t[starts] >> 6 & 0xFFFFFFF)
    return np.insert(words, starts, highs).astype("<u4").tobytes()


def evt21(count: int, rng: np.random.Generator) -> bytes:
    """Groups of 32 pixels, an eighth of them set, halves as IMX636 sends them."""
    groups = count // 4
    t = np.arange(groups, dtype=np.int64)
    x, y, p = (rng.integers(0, n, groups) for n in (WIDTH // 32, HEIGHT, 2))
    address = p << 28 | (t & 63) << 22 | x << 5 << 11 | y
    pixels = np.bitwise_or.reduce(1 << rng.integers(0, 32, (4, groups)), axis=0)
    starts = np.flatnonzero(np.diff(t >> 6, prepend=-1))
    address = np.insert(address, starts, 8 << 28 | (t[starts] >> 6 & 0xFFFFFFF))
    pixels = np.insert(pixels, starts, 0)
    return np.stack([address, pixels], axis=1).astype("<u4").tobytes()


def libcaer(count: int, rng: np.random.Generator) -> bytes:
    """One 64 bit word an event."""
    x, y = (rng.integers(0, n, count).astype(np.uint64) for n in (WIDTH, HEIGHT))
    p, t = rng.integers(0, 2, count).astype(np.uint64), np.arange(count, dtype=np.uint64)
    word = t << np.uint64(32) | x << np.uint64(17) | y << np.uint64(2) | p << np.uint64(1)
    return (word | np.uint64(1)).astype("<u8").tobytes()


def libcaer_cmp_words(count: int, rng: np.random.Generator) -> bytes:
    """A column and a time word before every eighth event."""
    groups = count // EVENTS_PER_ROW
    words = np.empty((groups, EVENTS_PER_ROW + 2), np.uint16)
    words[:, 0] = 0x2000 | rng.integers(0, WIDTH, groups)
    words[:, 1] = 0x1000 | (np.arange(groups) * 4096 // groups)
    y = rng.integers(0, HEIGHT, (groups, EVENTS_PER_ROW))
    words[:, 2:] = 0x3000 | rng.integers(0, 2, y.shape) << 11 | y
    return words.astype("<u2").tobytes()


def libcaer_cmp_vectors(count: int, rng: np.random.Generator) -> bytes:
    """Column, time, base and one vector of eight, half of it set."""
    groups = count // 4
    words = np.empty((groups, 4), np.uint16)
    words[:, 0] = 0x2000 | rng.integers(0, WIDTH, groups)
    words[:, 1] = 0x1000 | (np.arange(groups) * 4096 // groups)
    words[:, 2] = 0x4000 | rng.integers(0, 2, groups) << 11 | rng.integers(0, HEIGHT - 8, groups)
    words[:, 3] = 0x5000 | rng.integers(0, 256, groups)
    return words.astype("<u2").tobytes()


def mono(count: int, rng: np.random.Generator) -> bytes:
    """One 64 bit word an event, nanoseconds."""
    x, y = (rng.integers(0, n, count).astype(np.uint64) for n in (WIDTH, HEIGHT))
    p, t = rng.integers(0, 2, count).astype(np.uint64), np.arange(count, dtype=np.uint64) * 1000
    word = p << np.uint64(63) | y << np.uint64(48) | x << np.uint64(32)
    return (word | t).astype("<u8").tobytes()


def event_array(count: int, rng: np.random.Generator) -> bytes:
    """A whole serialized message, 16 bytes an event."""
    x, y = (rng.integers(0, n, count).astype(np.uint16) for n in (WIDTH, HEIGHT))
    t_ns = 1_700_000_000_000_000_000 + np.arange(count, dtype=np.int64) * 1000
    block = EventBlock.pack(x, y, t_ns, rng.integers(0, 2, count).astype(np.uint8))
    return EventArray(height=HEIGHT, width=WIDTH, events=block).serialize()


def split_events(count: int) -> list[Events]:
    """One second of events in packets of 1 ms."""
    t_us = np.arange(count, dtype=np.int64) * 1_000_000 // count
    place = np.zeros(count, np.uint16)
    events = Events(place, place, t_us, np.zeros(count, np.uint8), WIDTH, HEIGHT)
    cuts = np.searchsorted(t_us, np.arange(0, 1_000_001, 1000))
    return [events[a:b] for a, b in pairwise(cuts)]


def time_both(
    action: Callable[[], object], copy: Callable[[], object], repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Time the action and the copy beside it, in turn."""
    action()  # compiles
    taken: list[float] = []
    copied: list[float] = []
    for _ in range(repeats):
        for work, times in ((action, taken), (copy, copied)):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1e3)
    return np.array(taken), np.array(copied)


class Case(NamedTuple):
    """What to time, and beside which copy; the packets are for others to decode."""

    name: str
    events: int
    action: Callable[[], object]
    copy: Callable[[], object]
    encoding: str = ""
    size: tuple[int, int] = (WIDTH, HEIGHT)
    packets: tuple[tuple[int, bytes], ...] = ()
    decoded: Callable[[], Events] | None = None


def output_of(count: int) -> Callable[[], object]:
    """Copy as many bytes as ``count`` decoded events hold."""
    return np.ones(count * BYTES_PER_EVENT, np.uint8).copy


def event_arrays(total: int, count: int, rng: np.random.Generator) -> Case:
    """Messages of ``count`` events each, beside a copy of the messages."""
    packet = Packet("dvs_msgs/msg/EventArray", event_array(count, rng), 0)
    source = np.frombuffer(packet.data, np.uint8)
    messages = range(total // count)
    decoder = PacketDecoder()

    def decode() -> None:
        for _ in messages:
            decoder.push(packet)
            decoder.reset()

    def copy() -> None:
        for _ in messages:
            source.copy()

    return Case(f"EventArray, {count} a message", len(messages) * count, decode, copy)


def cases(count: int) -> list[Case]:
    """Return everything that is timed."""
    rng = np.random.default_rng(0)
    found: list[Case] = []
    for name, encoding, make in (
        ("evt3 single words", "evt3", evt3_words),
        ("evt3 vectors", "evt3", evt3_vectors),
        ("evt2", "evt2", evt2),
        ("evt21 groups", "evt21", evt21),
        ("libcaer", "libcaer", libcaer),
        ("libcaer_cmp single words", "libcaer_cmp", libcaer_cmp_words),
        ("libcaer_cmp vectors", "libcaer_cmp", libcaer_cmp_vectors),
        ("mono", "mono", mono),
    ):
        payload = make(count, rng)
        decoder = make_decoder(encoding, width=WIDTH, height=HEIGHT)
        number = len(decoder.decode(payload, 0).events)
        decode = partial(decoder.decode, payload, 0)
        found.append(
            Case(
                name, number, decode, output_of(number), encoding, (WIDTH, HEIGHT),
                ((0, payload),), partial(decoded_once, encoding, payload),
            )
        )  # fmt: skip
    found.extend(event_arrays(count, size, rng) for size in (3_000, 30_000, count))
    parts = split_events(count)

    def cut(stride_us: int) -> int:
        assembler = WindowAssembler(WindowSpec(50_000, stride_us=stride_us))
        for part in parts:
            assembler.push(part)
        return assembler.counters.windows

    for name, stride_us in (("windows of 50 ms", 50_000), ("windows of 50 ms every 10 ms", 10_000)):
        found.append(Case(name, count, partial(cut, stride_us), output_of(count)))
    data = Path(os.environ.get("EVDISTILL_TEST_DATA", "../shared/data"))
    found.extend(real_bag(data / path) for path in REAL_BAGS if (data / path).exists())
    return found


def decoded_once(encoding: str, payload: bytes) -> Events:
    """Decode a payload as the first of a stream."""
    return make_decoder(encoding, width=WIDTH, height=HEIGHT).decode(payload, 0).events


def real_bag(path: Path) -> Case:
    """Play the messages of a real bag through all of ``PacketDecoder``."""
    with open_recording(path) as recording:
        packets = list(recording.packets())
    messages = [EventPacket.parse(packet.data) for packet in packets]

    def play() -> list[Events]:
        decoder = PacketDecoder()
        return [d.events for packet in packets if (d := decoder.push(packet)) is not None]

    number = sum(map(len, play()))
    first = messages[0]
    return Case(
        f"real {first.encoding} bag, {len(packets)} messages", number, play, output_of(number),
        first.encoding, (first.width, first.height),
        tuple((m.time_base, bytes(m.events)) for m in messages),
        lambda: Events.concatenate(play()),
    )  # fmt: skip


def raw_files(folder: Path, count: int) -> list[tuple[str, str, Path]]:
    """Write RAW files of each encoding; return name, encoding and file, real ones included."""
    rng = np.random.default_rng(0)
    found = []
    for name, encoding, evt, make in (
        ("evt3 single words", "evt3", "3.0", evt3_words),
        ("evt3 vectors", "evt3", "3.0", evt3_vectors),
        ("evt2", "evt2", "2.0", evt2),
    ):
        path = folder / f"{name.replace(' ', '_')}.raw"
        system = "% sensor_generation 4.2\n% generation 4.2\n"
        head = f"% evt {evt}\n% format EVT{evt[0]}\n% geometry {WIDTH}x{HEIGHT}\n{system}% end\n"
        path.write_bytes(head.encode() + make(count, rng))
        found.append((name, encoding, path))
    bag = folder / "event_array.mcap"
    payload = event_array(30_000, rng)
    with McapWriter(bag) as writer:
        for k in range(max(count // 300_000, 1)):
            writer.write("/events", EventArray.TYPE, payload, k)
    found.append(("EventArray bag", "EventArray", bag))
    data = Path(os.environ.get("EVDISTILL_TEST_DATA", "../shared/data")) / "recordings"
    for file, encoding in REAL_FILES:
        if (data / file).exists():
            found.append((file, encoding, data / file))
    return found


def read_ours(path: Path) -> dict[str, int]:
    """Read a file; return the number and sums of its events."""
    with open_recording(path) as recording:
        parts = [b.events for b in recording.batches() if len(b.events)]
    sums = {name: sum(int(getattr(e, name).sum(dtype=np.int64)) for e in parts) for name in "xyp"}
    return {"events": sum(map(len, parts)), **sums}


def compare_with_peers(python: Path, count: int, passes: int) -> list[dict[str, object]]:
    """Read the same files with every library; print and return speeds, ratios, and agreement."""
    rows: list[dict[str, object]] = []
    print(f"\n{'file':28} {'library':22} {'ms':>8} {'Mev/s':>8} {'ours is':>8}  same events")
    with tempfile.TemporaryDirectory() as name:
        for label, encoding, path in raw_files(Path(name), count):
            expected = read_ours(path)
            script = Path(__file__).with_name("decode_peers.py")
            command = [str(python), str(script), encoding, str(path), str(passes)]
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
            before = _best_ms(path, passes)
            answer = subprocess.run(command, capture_output=True, check=True, env=environment)
            best = min(before, _best_ms(path, passes))
            entries = {"evdistill": {"checks": expected, "seconds": [best / 1e3]}}
            entries.update(json.loads(answer.stdout))
            for library, entry in entries.items():
                row: dict[str, object] = {"file": label, "library": library}
                if "failed" in entry:
                    print(f"{label:28} {library:22} failed: {entry['failed']}")
                    rows.append({**row, **entry})
                    continue
                ms = min(entry["seconds"]) * 1e3
                same = entry["checks"] == expected
                speed = entry["checks"]["events"] / ms / 1e3
                title = f"{library} {entry.get('version', '')}"
                print(f"{label:28} {title:22} {ms:8.2f} {speed:8.1f} {ms / best:7.2f}x  {same}")
                rows.append({**row, "ms": ms, "ours_is": ms / best, "same": same, **entry})
    return rows


def compare_with_codecs(headers: Path, found: list[Case], repeats: int) -> list[dict[str, object]]:
    """Decode the same packets with the drivers' library; print and return speeds and agreement.

    CPU time: what else the machine does counts less.
    """
    rows: list[dict[str, object]] = []
    print(f"\n{'case':32} {'ours ms':>8} {'C++ ms':>8} {'ours is':>8}  events that differ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = codecs_peer.build(headers, folder)
        for case in found:
            if case.encoding not in codecs_peer.READS or case.decoded is None:
                continue
            before = cpu_ms(case.action, repeats)
            peer = codecs_peer.decode(
                program, case.encoding, case.size, case.packets, 2 * repeats, folder
            )
            ours = float(np.percentile(before + cpu_ms(case.action, repeats), 5))
            theirs = float(np.percentile(peer.cpu_ms, 5))
            differing = difference(case.decoded(), peer.events)
            print(f"{case.name:32} {ours:8.2f} {theirs:8.2f} {theirs / ours:7.2f}x  {differing}")
            rows.append(
                {
                    "case": case.name,
                    "ours_p5_ms": round(ours, 3),
                    "codecs_p5_ms": round(theirs, 3),
                    "ours_is": round(theirs / ours, 2),
                    "differing": differing,
                }
            )
    return rows


def cpu_ms(action: Callable[[], object], repeats: int) -> list[float]:
    """Return the CPU time of each pass, the first one left out: it compiles."""
    action()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append((time.process_time() - start) * 1e3)
    return times


def difference(ours: Events, theirs: Events) -> str:
    """Say in how many events, and in what, two decoders differ; times may have any origin."""
    if len(ours) != len(theirs):
        return f"{len(ours)} events and {len(theirs)}"
    if not len(ours):
        return "none"
    shift_us = int(np.median(theirs.t_us - ours.t_us))
    columns = {name: (getattr(ours, name), getattr(theirs, name)) for name in "xyp"}
    columns["t"] = (ours.t_us + shift_us, theirs.t_us)
    counts = {name: np.count_nonzero(a != b) for name, (a, b) in columns.items()}
    return ", ".join(f"{count} in {name}" for name, count in counts.items() if count) or "none"


def _best_ms(path: Path, passes: int) -> float:
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        with open_recording(path) as recording:
            for batch in recording.batches():
                assert batch is not None
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peers", type=Path, help="Python with the other libraries")
    parser.add_argument("--codecs", type=Path, help="headers of event_camera_codecs")
    options = parser.parse_args()
    rows = []
    heads = ("p5 ms", "p50 ms", "p95 ms", "Mev/s", "x memcpy")
    print(f"{'case':32} {'events':>9}" + "".join(f"{head:>9}" for head in heads))
    measured = cases(options.events)
    for name, count, action, copy, *_ in measured:
        taken, copied = time_both(action, copy, options.repeats)
        p5, p50, p95 = np.percentile(taken, [5, 50, 95])
        memcpy_p5 = float(np.percentile(copied, 5))
        rows.append(
            {
                "case": name,
                "events": count,
                "p5_ms": round(float(p5), 3),
                "p50_ms": round(float(p50), 3),
                "p95_ms": round(float(p95), 3),
                "mev_per_s": round(count / p5 / 1e3, 1),
                "memcpy_p5_ms": round(memcpy_p5, 3),
                "ratio_to_memcpy": round(float(p5) / memcpy_p5, 2),
            }
        )
        row = rows[-1]
        print(
            f"{name:32} {count:9} {p5:8.2f} {p50:8.2f} {p95:8.2f} {row['mev_per_s']:8} "
            f"{row['ratio_to_memcpy']:8}"
        )
    codecs = []
    if options.codecs:
        codecs = compare_with_codecs(options.codecs, measured, options.repeats)
    peers = []
    if options.peers:
        peers = compare_with_peers(options.peers, options.events, options.repeats)
    if options.json:
        machine = {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "rows": rows,
            "codecs": codecs,
            "peers": peers,
        }
        options.json.write_text(json.dumps(machine, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What all decoders share: results, counters, and the check of frame size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.messages.cdr import Buffer

# Places in the tally that kernels write to.
UNKNOWN, BACKWARD, OUTSIDE, UNSYNCED = range(4)
# Larger than any event sensor; a damaged size must not make the consumers allocate gigabytes.
MAX_SIDE = 4096
# Keeps every sum of times inside 64 bits.
MAX_TIME_BASE_NS = 1 << 62
# Inside kernels numba knows the dtypes; the names of the arguments say what they hold.
KernelArray = npt.NDArray[Any]
NO_TIME_YET = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Decoded:
    """What one payload held.

    Attributes:
        events: in the order of the payload, all inside the frame.
        triggers: edges on the external input.
        t_end_us: sensor time when the payload ended; known for some encodings even without an
            event in it.
    """

    events: Events
    triggers: Triggers
    t_end_us: int | None = None


@dataclass(frozen=True)
class DecodedRun:
    """What some payloads in a row held.

    Attributes:
        events: of all of them.
        ends: place behind the last event of each payload.
        t_ends_us: of each payload, as in ``Decoded``.
        triggers: how many there were.
    """

    events: Events
    ends: list[int]
    t_ends_us: list[int | None]
    triggers: int


@dataclass(frozen=True)
class DecoderCounters:
    """Everything that a decoder met since it was made.

    Attributes:
        events: given out.
        triggers: given out.
        unknown_words: words (or bytes that make no whole word) without a meaning, skipped.
        backward_time: events earlier than the event before them; they are given out.
        out_of_frame: events outside width and height, dropped.
        discarded_before_sync: events dropped because time or place were not known yet.
    """

    events: int = 0
    triggers: int = 0
    unknown_words: int = 0
    backward_time: int = 0
    out_of_frame: int = 0
    discarded_before_sync: int = 0


class Decoder(ABC):
    """Decodes the payloads of one stream, in their order; state crosses payloads.

    Args:
        width: columns of the sensor, 1..4096.
        height: rows of the sensor, 1..4096.
    """

    encoding: str

    def __init__(self, *, width: int, height: int) -> None:
        for name, side in (("width", width), ("height", height)):
            if not 1 <= side <= MAX_SIDE:
                raise ValueError(f"{name} must be 1..{MAX_SIDE}, got {side}")
        self.width = width
        self.height = height
        self._tally = np.zeros(4, np.int64)
        self._events = 0
        self._triggers = 0

    @property
    def counters(self) -> DecoderCounters:
        """Counts since the decoder was made; ``reset`` and ``invalidate`` keep them."""
        return DecoderCounters(self._events, self._triggers, *self.damage())

    def damage(self) -> list[int]:
        """Return the counts of unknown words, backward times, events outside and unsynced."""
        counts: list[int] = self._tally.tolist()
        return counts

    def decode(self, payload: Buffer, time_base_ns: int) -> Decoded:
        """Decode one payload. Never raises on bytes from a sensor: damage is counted.

        Args:
            payload: the encoded bytes; not modified.
            time_base_ns: what the message says in ``time_base``; some encodings ignore it. Beyond
                2**62 (the year 2116) the payload is dropped as one unknown word.
        """
        if not 0 <= time_base_ns < MAX_TIME_BASE_NS:
            self._tally[UNKNOWN] += 1
            payload, time_base_ns = b"", 0
        decoded = self._decode(payload, time_base_ns)
        self._events += len(decoded.events)
        self._triggers += len(decoded.triggers)
        return decoded

    def decode_run(self, payloads: Sequence[Buffer], time_bases_ns: Sequence[int]) -> DecodedRun:
        """Decode payloads that follow each other; the same as ``decode`` of one after the other."""
        is_whole = not any(len(payload) % 2 for payload in payloads)
        is_known = all(0 <= base_ns < MAX_TIME_BASE_NS for base_ns in time_bases_ns)
        run = self._decode_run(payloads, time_bases_ns) if is_whole and is_known else None
        if run is not None:
            self._events += len(run.events)
            self._triggers += run.triggers
            return run
        pairs = zip(payloads, time_bases_ns, strict=True)
        decoded = [self.decode(payload, base_ns) for payload, base_ns in pairs]
        return DecodedRun(
            Events.concatenate([d.events for d in decoded]),
            np.cumsum([len(d.events) for d in decoded]).tolist(),
            [d.t_end_us for d in decoded],
            sum(len(d.triggers) for d in decoded),
        )

    def _decode_run(
        self, payloads: Sequence[Buffer], time_bases_ns: Sequence[int]
    ) -> DecodedRun | None:
        """Decode whole 16 bit words of all payloads in one call; None: the encoding cannot."""
        return None

    @abstractmethod
    def _decode(self, payload: Buffer, time_base_ns: int) -> Decoded: ...

    def reset(self) -> None:  # noqa: B027 - most encodings keep no state
        """Forget the stream: the next payload is the first of a new one."""

    def invalidate(self, elapsed_us: int | None = None) -> None:  # noqa: B027 - as above
        """Payloads were lost: trust neither place nor time until they are seen again.

        Args:
            elapsed_us: how long the gap was by another clock, if known; tells how often a
                wrapping time counter went round meanwhile.
        """

    def _words(self, payload: Buffer, dtype: type[np.unsignedinteger[Any]]) -> KernelArray:
        """View a payload as words, copying only if it is not aligned; count a cut last word."""
        size = np.dtype(dtype).itemsize
        count, cut = divmod(len(payload), size)
        self._tally[UNKNOWN] += cut > 0
        words = np.frombuffer(payload, np.dtype(dtype).newbyteorder("<"), count)
        if not words.flags.aligned:
            words = words.copy()
        words.flags.writeable = False
        return words


def joined_words(payloads: Sequence[Buffer]) -> tuple[KernelArray, KernelArray]:
    """Return the 16 bit words of all payloads, and the place behind those of each."""
    ends = np.cumsum([len(payload) // 2 for payload in payloads])
    words = np.frombuffer(payloads[0] if len(payloads) == 1 else b"".join(payloads), "<u2")
    if not words.flags.aligned:
        words = words.copy()
    words.flags.writeable = False
    return words, ends


# Places in the state of a decoder whose time comes in two words.
HIGH, HIGH_KNOWN, LOW, LAST_T, FRESH = range(5)
MAX_GAP_US = 86_400_000_000  # a longer gap is a clock set again, not a pause


class TimeHighDecoder(Decoder):
    """What the encodings of Prophesee share: the upper part of the time has words of its own.

    The upper part wraps and is unwrapped by the nearest value to the last one.
    """

    #: Bits of microseconds below those of the time words.
    low_bits: int
    #: Places in the state that a gap makes unknown, among them ``HIGH_KNOWN``.
    lost_in_a_gap: tuple[int, ...] = (HIGH_KNOWN,)
    state_size = 5

    def __init__(self, *, width: int, height: int) -> None:
        super().__init__(width=width, height=height)
        self._state = np.zeros(self.state_size, np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget the stream, including how often its time wrapped."""
        self._state[:] = 0
        self._state[FRESH] = 1
        self._state[LAST_T] = NO_TIME_YET

    def invalidate(self, elapsed_us: int | None = None) -> None:
        """Wait for time and place again; keep the count of wraps."""
        self._state[list(self.lost_in_a_gap)] = 0
        if elapsed_us is not None and 0 < elapsed_us < MAX_GAP_US:
            self._state[HIGH] += elapsed_us >> self.low_bits

    def start_at(self, t_us: int) -> None:
        """Begin in the middle of a stream: the next time word is the one nearest to ``t_us``."""
        self.reset()
        self._state[HIGH] = t_us >> self.low_bits
        self._state[FRESH] = 0

    def high_us(self) -> int:
        """Return the time of the latest time word, unwrapped."""
        return int(self._state[HIGH] << self.low_bits)

    def _filled(self, columns: Columns, count: int, edges: Edges, edge_count: int) -> Decoded:
        """Return what a kernel wrote into ``columns`` and ``edges``."""
        return Decoded(
            columns.events(count, self.width, self.height),
            edges.triggers(edge_count),
            self._reached_us(),
        )

    def _reached_us(self) -> int | None:
        """Return the latest time that the payload told."""
        if not self._state[HIGH_KNOWN]:
            return None
        return int(self._state[HIGH] << self.low_bits | self._state[LOW])


class Columns(NamedTuple):
    """Room for events, to be filled by a kernel; kernels take it as one argument."""

    x: npt.NDArray[np.uint16]
    y: npt.NDArray[np.uint16]
    t_us: npt.NDArray[np.int64]
    p: npt.NDArray[np.uint8]

    @staticmethod
    def room(count: int) -> Columns:
        """Allocate columns for ``count`` events."""
        return Columns(
            np.empty(count, np.uint16),
            np.empty(count, np.uint16),
            np.empty(count, np.int64),
            np.empty(count, np.uint8),
        )

    def events(self, count: int, width: int, height: int) -> Events:
        """Return the first ``count`` events."""
        return Events.of_views(
            self.x[:count], self.y[:count], self.t_us[:count], self.p[:count], width, height
        )


class Edges(NamedTuple):
    """Room for edges on the trigger input, to be filled by a kernel."""

    t_us: npt.NDArray[np.int64]
    id: npt.NDArray[np.uint8]
    edge: npt.NDArray[np.uint8]

    @staticmethod
    def room(count: int) -> Edges:
        """Allocate columns for ``count`` edges."""
        return Edges(
            np.empty(count, np.int64), np.empty(count, np.uint8), np.empty(count, np.uint8)
        )

    def triggers(self, count: int) -> Triggers:
        """Return the first ``count`` edges."""
        return Triggers(self.t_us[:count], self.id[:count], self.edge[:count])


@njit(nogil=True, cache=True, inline="always")
def put(columns: Columns, count: int, column: int, row: int, t_us: int, polarity: int) -> None:
    """Write one event at place ``count``."""
    at = np.uintp(count)
    columns.x[at] = column
    columns.y[at] = row
    columns.t_us[at] = t_us
    columns.p[at] = polarity


@njit(nogil=True, cache=True, inline="always")
def put_edge(edges: Edges, count: int, t_us: int, channel: int, value: int) -> None:
    """Write one edge at place ``count``."""
    edges.t_us[count] = t_us
    edges.id[count] = channel
    edges.edge[count] = value


@njit(nogil=True, cache=True, inline="always")
def fill_lanes(
    columns: Columns, line: KernelArray, count: int, lanes: int, at: int, t_us: int, polarity: int
) -> None:
    """Write what all lanes of a vector share; those that are not set are overwritten later.

    Args:
        columns: where to.
        line: the column of ``columns`` that is the same for all lanes.
        count: place of the first lane.
        lanes: how many.
        at: what stands in ``line``.
        t_us: time.
        polarity: of all lanes.
    """
    for lane in range(lanes):
        line[np.uintp(count + lane)] = at
    for lane in range(lanes):
        columns.t_us[np.uintp(count + lane)] = t_us
    for lane in range(lanes):
        columns.p[np.uintp(count + lane)] = polarity


@njit(nogil=True, cache=True, inline="always")
def popcount(bits: int) -> int:
    """Count the ones of up to 63 bits; the compiler makes one instruction of it."""
    b: Any = np.uint64(bits)
    b -= (b >> np.uint64(1)) & np.uint64(0x5555555555555555)
    b = (b & np.uint64(0x3333333333333333)) + ((b >> np.uint64(2)) & np.uint64(0x3333333333333333))
    b = (b + (b >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    ones: Any = np.int64((b * np.uint64(0x0101010101010101)) >> np.uint64(56))
    return ones  # type: ignore[no-any-return]


@njit(nogil=True, cache=True, inline="always")
def add_tally(tally: KernelArray, unknown: int, backward: int, outside: int, unsynced: int) -> None:
    """Add what a kernel counted to the counts of its decoder."""
    tally[UNKNOWN] += unknown
    tally[BACKWARD] += backward
    tally[OUTSIDE] += outside
    tally[UNSYNCED] += unsynced

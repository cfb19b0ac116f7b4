"""Write EVT3 ``.raw`` files, as Prophesee's tools and OpenEB read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from evdistill_core.events.array import Events, Triggers
from evdistill_core.foundation.errors import EncodingError
from evdistill_core.foundation.files import FinishedBlock, atomic_path
from evdistill_core.recordings.encoders.edge_queue import select
from evdistill_core.recordings.encoders.evt3 import TIME_HIGH, encode_evt3, has_word_for

#: Events of one piece lie in one slot of 2.1 s; decoders are told the time at least every 4.2 s.
SLOT_BITS = 21
STEP_US = 1 << 22
#: A fall of so much reads as a step forward: the clock of 24 bits has no more.
FALL_LIMIT_US = 1 << 23
#: A longer pause would take megabytes of nothing but time.
PAUSE_LIMIT_US = 30 * 86_400 * 1_000_000


class RawWriter(FinishedBlock):
    """Events and edges of channels 0 .. 15 in EVT3; times are kept modulo 2^24 us.

    Args:
        path: the file to make; it appears only when the block ends well.
        width: columns of the sensor, at most 2048.
        height: rows of the sensor, at most 2048.

    Attributes:
        written_bytes: on disk so far.
    """

    def __init__(self, path: Path, *, width: int, height: int) -> None:
        self._path = path
        self._size = width, height
        self._last_us: int | None = None
        self.written_bytes = 0

    def __enter__(self) -> RawWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._file = self._stack.enter_context(temporary.open("wb"))
        self._put(self._header())
        return self

    def _header(self) -> bytes:
        width, height = self._size
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        # The two names of integrators and that of the plugin are what OpenEB looks a decoder up by.
        lines = (
            "camera_integrator_name Prophesee",
            f"date {now}",
            "evt 3.0",
            f"format EVT3;height={height};width={width}",
            f"geometry {width}x{height}",
            "integrator_name Prophesee",
            "plugin_integrator_name Prophesee",
            "plugin_name hal_plugin_prophesee",
            "end",
        )
        return "".join(f"% {line}\n" for line in lines).encode("ascii")

    def _put(self, data: bytes) -> None:
        self.written_bytes += self._file.write(data)

    def write(self, events: Events, triggers: Triggers) -> None:
        """Append events and edges in their order; edges that EVT3 has no word for are left out.

        Raises:
            EncodingError: coordinates above 2047, a time that falls by 8.4 s or more, or a pause of
                more than 30 days.
        """
        edges = select(triggers, has_word_for(triggers))
        slots = edges.t_us >> SLOT_BITS
        done = np.zeros(len(edges), np.bool_)
        for slot, part in _pieces(events):
            for early in np.unique(slots[~done & (slots < slot)]):
                self._piece(events[:0], select(edges, slots == early))
            self._piece(part, select(edges, ~done & (slots == slot)))
            done |= slots <= slot
        for late in np.unique(slots[~done]):
            self._piece(events[:0], select(edges, ~done & (slots == late)))

    def _piece(self, events: Events, edges: Triggers) -> None:
        """Write what lies in one slot of time."""
        times = np.concatenate([events.t_us[:1], edges.t_us[:1]])
        if not len(times):
            return
        self._bridge(int(times.min()))
        self._put(encode_evt3(events, 0, edges))
        last = [int(t[-1]) for t in (events.t_us, edges.t_us) if len(t)]
        self._last_us = max(last)

    def _bridge(self, t_us: int) -> None:
        """Tell a decoder the time in steps that it can follow."""
        if self._last_us is None:
            return
        step_us = t_us - self._last_us
        if step_us <= STEP_US - FALL_LIMIT_US:
            raise EncodingError(
                f"time falls by {-step_us / 1e6:.1f} s, an EVT3 file holds at most "
                f"{(FALL_LIMIT_US - STEP_US) / 1e6:.1f} s: write another format, or cut the "
                "recording there"
            )
        if step_us > PAUSE_LIMIT_US:
            raise EncodingError(
                f"there are no events for {step_us / 86_400e6:.0f} days, an EVT3 file holds at "
                "most 30: write another format, or cut the recording there"
            )
        steps = np.arange(self._last_us + STEP_US, t_us, STEP_US)
        words = TIME_HIGH | (steps >> 12 & 0xFFF)
        self._put(words.astype("<u2").tobytes())


def _pieces(events: Events) -> Iterator[tuple[int, Events]]:
    """Yield runs of events in one slot of time."""
    slots = events.t_us >> SLOT_BITS
    if not len(slots):
        return
    starts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(slots)], strict=True):
        yield int(slots[start]), events[start:end]

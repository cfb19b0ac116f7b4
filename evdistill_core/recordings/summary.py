"""One pass over a recording: counts, sums and the event rate over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evdistill_core.recordings.base import EventBatch, Recording

#: Bins of the rate start this short and double whenever the recording outgrows them.
RATE_BIN_US = 1_000
RATE_BINS = 512


@dataclass
class RateHistogram:
    """Events per time bin, in constant memory.

    The first event opens bin 0. When an event lies past the last bin, bins are joined in pairs
    until it fits, so any length is covered by 256 to 512 bins. Events before the first one (time
    ran backwards) are counted in ``outside``.

    Attributes:
        bin_us: length of a bin.
        counts: (512,) events a bin.
        origin_us: time of the first event; ``None`` before there is one.
        outside: events that lie before it.
    """

    bin_us: int = RATE_BIN_US
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(RATE_BINS, np.int64))
    origin_us: int | None = None
    outside: int = 0

    def add(self, t_us: npt.NDArray[np.int64]) -> None:
        """Count events; their order does not matter after the first."""
        if not len(t_us):
            return
        if self.origin_us is None:
            self.origin_us = int(t_us[0])
        since = t_us - self.origin_us
        while int(since.max()) >= self.bin_us * RATE_BINS:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([joined, np.zeros(RATE_BINS // 2, np.int64)])
            self.bin_us *= 2
        inside = since[since >= 0]
        self.outside += len(since) - len(inside)
        self.counts += np.bincount(inside // self.bin_us, minlength=RATE_BINS)

    def rates_hz(self, bins: int) -> tuple[npt.NDArray[np.float64], float]:
        """Return events a second in at most ``bins`` equal spans, and a span's length in seconds.

        The last span may reach past the last event; an empty recording gives one span of rate 0.
        """
        used = int(np.flatnonzero(self.counts)[-1]) + 1 if self.counts.any() else 1
        group = -(-used // max(1, bins))
        padded = np.zeros(-(-used // group) * group, np.int64)
        padded[:used] = self.counts[:used]
        span_s = group * self.bin_us / 1e6
        return padded.reshape(-1, group).sum(axis=1) / span_s, span_s


@dataclass
class Summary:
    """What one pass over the events gives.

    Attributes:
        events: number of events, ``on`` + ``off``.
        on: events of polarity 1.
        off: events of polarity 0.
        sum_x: sum of the columns of all events.
        sum_y: sum of the rows.
        first_us: smallest time; 0 without events.
        last_us: largest time; 0 without events.
        triggers: edges on the external trigger input.
        batches: messages or stored packets with events or triggers.
        discontinuities: how often events must not be joined with those before, by reason.
        rate: events over time.
    """

    events: int = 0
    on: int = 0
    off: int = 0
    sum_x: int = 0
    sum_y: int = 0
    first_us: int = 0
    last_us: int = 0
    triggers: int = 0
    batches: int = 0
    discontinuities: dict[str, int] = field(default_factory=dict)
    rate: RateHistogram = field(default_factory=RateHistogram)

    @property
    def duration_us(self) -> int:
        """Time from the first to the last event."""
        return self.last_us - self.first_us

    def add(self, batch: EventBatch) -> None:
        """Count one batch."""
        self.batches += 1
        self.triggers += len(batch.triggers)
        if batch.discontinuity:
            count = self.discontinuities.get(batch.discontinuity, 0)
            self.discontinuities[batch.discontinuity] = count + 1
        events = batch.events
        if not len(events):
            return
        first, last = int(events.t_us.min()), int(events.t_us.max())
        self.first_us = min(first, self.first_us) if self.events else first
        self.last_us = max(last, self.last_us) if self.events else last
        on = int(np.count_nonzero(events.p))
        self.events += len(events)
        self.on += on
        self.off += len(events) - on
        self.sum_x += int(events.x.sum(dtype=np.int64))
        self.sum_y += int(events.y.sum(dtype=np.int64))
        self.rate.add(events.t_us)


def summarise(
    recording: Recording,
    progress: Callable[[int], None] | None = None,
    *,
    span_us: tuple[int | None, int | None] = (None, None),
) -> Summary:
    """Read a recording, or a span of it, once.

    Args:
        recording: an open recording; one without events gives a summary of zeros.
        progress: called with the number of events so far, after every batch.
        span_us: sensor time of start and end, as ``Recording.span_us`` gives it.
    """
    summary = Summary()
    for batch in _batches(recording, span_us):
        summary.add(batch)
        if progress is not None:
            progress(summary.events)
    return summary


def _batches(recording: Recording, span_us: tuple[int | None, int | None]) -> Iterator[EventBatch]:
    return recording.batches(*span_us) if recording.info.topic else iter(())

"""Sensor time that falls or leaps: stretches are told apart, stray events are left out, counted.

Sensors restart, recordings are joined, bags loop, single time words get damaged, and simulators
write times that fall inside every frame. What follows a restart is kept as a new stretch; what
only strays, and comes back, costs nothing but itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.stream import DecodedPacket, StreamCounters

# Sensors and networks step back by some milliseconds (2.7 ms reported from an EVK4, 65 ms from a
# mis-timed libcaer_cmp message); a longer step is a restart, a loop, or a damaged time word.
BACKWARD_JUMP_US = 200_000
# A longer step forward between messages is a jump too, unless the header stamps confirm it: an EVT3
# sensor that restarts looks like one, unless it did so within this time of a wrap.
FORWARD_JUMP_US = 1_000_000
# Inside a message there are no stamps; no driver collects for so long.
FORWARD_JUMP_INSIDE_US = 5_000_000
# Without stamps a quiet scene and a leap look the same.
NO_LIMIT_US = 1 << 61
# Drivers send at least ten messages a second; the time at the end of one moves by less than this.
END_STEP_US = 200_000
# The window assembler raises times that fall by less; what falls farther is sorted here.
SORTED_FALL_US = 10_000
# So many events in a row may stray; more are a stretch of their own.
MAX_STRAY = 256
# So many events at the end of a message wait for the next message to say whether they strayed.
MAX_HELD = 16

_CONTINUES, _BEGINS, _STRAYS, _WAITS = range(4)


@dataclass(frozen=True)
class _Runs:
    """Pieces of one message in which time neither falls nor leaps.

    Attributes:
        edges: (N + 1,) where they begin, and the end of the last.
        first_us: (N,) time of the first event.
        newest_us: (N,) latest time.
    """

    edges: npt.NDArray[np.int64]
    first_us: npt.NDArray[np.int64]
    newest_us: npt.NDArray[np.int64]


class TimeWatch:
    """Splits the events of one stream where its time breaks off.

    Args:
        counters: of the stream; ``time_jumps``, ``discarded_at_jump`` and ``time_sorted`` rise, and
            what strays is taken off ``events``.
    """

    def __init__(self, counters: StreamCounters) -> None:
        self.counters = counters
        self._newest_us: int | None = None
        self._reached_us: int | None = None
        self._stamp_ns = 0
        self._held: DecodedPacket | None = None
        self._strays_wait = False
        self._disorder_us = 0

    def reset(self) -> None:
        """Forget the stream, as if the next message were the first; what was held is dropped."""
        if self._held is not None:
            self._leave_out(len(self._held.events))
        self._newest_us = self._reached_us = self._held = None
        self._strays_wait = False
        self._stamp_ns = self._disorder_us = 0

    def split(self, decoded: DecodedPacket, *, can_wait: bool = False) -> list[DecodedPacket]:
        """Return the stretches of one message, in order.

        Args:
            decoded: the next message, as its decoder gave it. Not modified.
            can_wait: the last events may be held back until later ones tell their order (files);
                otherwise only events that seem to stray wait, for one message.

        Returns:
            At least one part; each one after the first has the discontinuity ``"time"``. Times fall
            by at most 10 ms inside a part. ``t_end_us`` stays where it is plausible.
        """
        parts: list[DecodedPacket] = []
        if self._held is not None:
            decoded, parts = self._joined(decoded)
        if decoded.discontinuity in {"size", "encoding"}:
            self._newest_us = self._reached_us = None
        found = self._parts(decoded, can_wait=can_wait)
        t_end_us = self._plausible(decoded.t_end_us, decoded.stamp_ns)
        self._stamp_ns = decoded.stamp_ns
        if t_end_us != found[-1].t_end_us:
            found[-1] = replace(found[-1], t_end_us=t_end_us)
        return parts + found

    def follow(
        self, span_us: tuple[int, int] | None, stamp_ns: int, t_end_us: int | None
    ) -> tuple[bool, int | None]:
        """Take a message whose events are in order, if it simply continues the stream.

        Args:
            span_us: times of its first and last event; None without events.
            stamp_ns: of the message.
            t_end_us: of the message.

        Returns:
            Whether it was taken: what ``split`` would give is the whole message; else nothing has
            changed, and ``split`` has to see it. And ``t_end_us`` where it is plausible.
        """
        if self._held is not None:
            return False, None
        if span_us is not None and not self._continues(*span_us, stamp_ns):
            return False, None
        t_end_us = self._plausible(t_end_us, stamp_ns)
        self._stamp_ns = stamp_ns
        return True, t_end_us

    def flush(self) -> list[DecodedPacket]:
        """Return what was held back, at the end of the stream."""
        held, self._held = self._held, None
        if held is None:
            return []
        self._newest_us = int(held.events.t_us.max())
        return [self._in_order(held)]

    def _joined(self, decoded: DecodedPacket) -> tuple[DecodedPacket, list[DecodedPacket]]:
        """Put what was held before what comes, or give it out where the two do not go together."""
        held = self._held
        assert held is not None
        size = (held.events.width, held.events.height)
        is_other = size != (decoded.events.width, decoded.events.height)
        if is_other or (decoded.discontinuity and not self._strays_wait):
            return decoded, self.flush()
        self._held = None
        events = Events.concatenate([held.events, decoded.events])
        return replace(decoded, events=events, stamp_ns=held.stamp_ns), []

    def _parts(self, decoded: DecodedPacket, *, can_wait: bool) -> list[DecodedPacket]:
        events = decoded.events
        if not len(events):
            return [decoded]
        if self._simply_continues(events, decoded.stamp_ns):
            return [self._waiting(decoded, can_wait=can_wait)]
        runs = _find_runs(events.t_us)
        verdicts, newest_us = self._judged(runs, decoded.stamp_ns)
        self._newest_us = newest_us
        if len(verdicts) == 1 and verdicts[0] == _CONTINUES:
            return [self._waiting(self._in_order(decoded), can_wait=can_wait)]
        parts = self._cut(decoded, runs, verdicts)
        if self._held is None:
            parts[-1] = self._waiting(parts[-1], can_wait=can_wait)
        return parts

    def _simply_continues(self, events: Events, stamp_ns: int) -> bool:
        """Take a message that is in order and follows what came before, as nearly all do.

        What ``_judged`` would say of it is known without looking at every event.
        """
        first_us, last_us = int(events.t_us[0]), int(events.t_us[-1])
        if not 0 <= last_us - first_us <= BACKWARD_JUMP_US or not events.in_order:
            return False
        return self._continues(first_us, last_us, stamp_ns)

    def _continues(self, first_us: int, last_us: int, stamp_ns: int) -> bool:
        if last_us - first_us > BACKWARD_JUMP_US:
            return False
        latest_us = self._latest_us()
        if latest_us is not None:
            ahead_us, _ = self._limits(stamp_ns)
            if not latest_us - BACKWARD_JUMP_US <= first_us <= latest_us + ahead_us:
                return False
            last_us = max(last_us, latest_us)
        self._newest_us, self._strays_wait = last_us, False
        return True

    def _limits(self, stamp_ns: int) -> tuple[int, int]:
        """Return how far ahead of the latest time a message may begin, and go on inside."""
        if stamp_ns <= 0:
            return NO_LIMIT_US, NO_LIMIT_US
        confirmed_us = (stamp_ns - self._stamp_ns) // 1000 if self._stamp_ns > 0 else 0
        return max(FORWARD_JUMP_US, 2 * confirmed_us), FORWARD_JUMP_INSIDE_US

    def _judged(self, runs: _Runs, stamp_ns: int) -> tuple[npt.NDArray[np.int64], int]:
        latest_us = self._latest_us()
        ahead_us, ahead_inside_us = self._limits(stamp_ns)
        verdicts = np.empty(len(runs.first_us), np.int64)
        newest_us = _judge(
            runs.first_us,
            runs.newest_us,
            np.diff(runs.edges),
            latest_us is not None,
            latest_us or 0,
            ahead_us,
            ahead_inside_us,
            not self._strays_wait,
            verdicts,
        )
        self._strays_wait = bool((verdicts == _WAITS).any())
        if (verdicts == _BEGINS).any():
            self._reached_us = None
        return verdicts, int(newest_us)

    def _cut(
        self, decoded: DecodedPacket, runs: _Runs, verdicts: npt.NDArray[np.int64]
    ) -> list[DecodedPacket]:
        """Return the stretches; hold and leave out what the verdicts say."""
        number = np.cumsum(verdicts == _BEGINS)
        of_event = np.repeat(np.arange(len(verdicts)), np.diff(runs.edges))
        is_kept = (verdicts == _CONTINUES) | (verdicts == _BEGINS)
        self._leave_out(int(np.diff(runs.edges)[verdicts == _STRAYS].sum()))
        self.counters.time_jumps += int(number[-1])
        parts = []
        for k in range(int(number[-1]) + 1):
            part = decoded.events[(is_kept & (number == k))[of_event]]
            if k == 0 and not len(part) and number[-1]:
                continue  # the message begins with a jump
            why = decoded.discontinuity if k == 0 else "time"
            parts.append(self._in_order(replace(decoded, events=part, discontinuity=why)))
        if decoded.discontinuity in {"size", "encoding"}:
            # They say more than the jump that came with them.
            parts[0] = replace(parts[0], discontinuity=decoded.discontinuity)
        parts[1:] = [replace(p, triggers=Triggers.empty()) for p in parts[1:]]
        waits = (verdicts == _WAITS)[of_event]
        if waits.any():
            self._held = replace(
                decoded, events=decoded.events[waits], triggers=Triggers.empty(),
                discontinuity="time", t_end_us=None,
            )  # fmt: skip
        return parts

    def _in_order(self, decoded: DecodedPacket) -> DecodedPacket:
        """Sort a part whose times fall by more than the window assembler takes."""
        t_us = decoded.events.t_us
        fall_us = int(_deepest_fall(t_us)) if len(t_us) else 0
        self._disorder_us = max(self._disorder_us, fall_us)
        if fall_us <= SORTED_FALL_US:
            return decoded
        order = np.argsort(t_us, kind="stable")
        self.counters.time_sorted += int((order != np.arange(len(order))).sum())
        return replace(decoded, events=decoded.events[order])

    def _waiting(self, decoded: DecodedPacket, *, can_wait: bool) -> DecodedPacket:
        """Hold back the end of a part that later events may have to be sorted into."""
        events = decoded.events
        if not can_wait or self._disorder_us <= SORTED_FALL_US or not len(events):
            return decoded
        cut = int(np.searchsorted(events.t_us, int(events.t_us[-1]) - self._disorder_us))
        self._held = replace(
            decoded, events=events[cut:], triggers=Triggers.empty(), discontinuity=""
        )
        return replace(decoded, events=events[:cut])

    def _leave_out(self, count: int) -> None:
        self.counters.events -= count
        self.counters.discarded_at_jump += count

    def _plausible(self, t_end_us: int | None, stamp_ns: int) -> int | None:
        """Refuse a time that one damaged word put far ahead: windows would be closed unfilled."""
        if t_end_us is None:
            return None
        latest_us = self._latest_us()
        confirmed_us = (stamp_ns - self._stamp_ns) // 1000 if self._stamp_ns > 0 else 0
        step_us = 0 if latest_us is None else t_end_us - latest_us
        if not 0 <= step_us <= max(END_STEP_US, 2 * confirmed_us):
            return None
        self._reached_us = t_end_us
        return t_end_us

    def _latest_us(self) -> int | None:
        """Return the latest sensor time that was told, by an event or without one."""
        known = [t for t in (self._reached_us, self._newest_us) if t is not None]
        return max(known, default=None)


def _find_runs(t_us: npt.NDArray[np.int64]) -> _Runs:
    edges = np.empty(_count_runs(t_us) + 1, np.int64)
    newest_us = np.empty(len(edges) - 1, np.int64)
    _fill_runs(t_us, edges, newest_us)
    return _Runs(edges, t_us[edges[:-1]], newest_us)


@njit(nogil=True, cache=True)
def _count_runs(t_us: npt.NDArray[np.int64]) -> int:
    count = 1
    newest_us = t_us[0]
    for i in range(1, t_us.size):
        t = t_us[i]
        if t < newest_us - BACKWARD_JUMP_US or t > newest_us + BACKWARD_JUMP_US:
            count += 1
            newest_us = t
        elif t > newest_us:
            newest_us = t
    return count


@njit(nogil=True, cache=True)
def _fill_runs(
    t_us: npt.NDArray[np.int64], edges: npt.NDArray[np.int64], newest_of: npt.NDArray[np.int64]
) -> None:
    k = 0
    edges[0] = 0
    newest_us = t_us[0]
    for i in range(1, t_us.size):
        t = t_us[i]
        if t < newest_us - BACKWARD_JUMP_US or t > newest_us + BACKWARD_JUMP_US:
            newest_of[k] = newest_us
            k += 1
            edges[k] = i
            newest_us = t
        elif t > newest_us:
            newest_us = t
    newest_of[k] = newest_us
    edges[k + 1] = t_us.size


@njit(nogil=True, cache=True)
def _judge(  # noqa: PLR0913, PLR0917 - a kernel takes bare arrays and numbers
    first_us: npt.NDArray[np.int64],
    newest_us: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    has_latest: bool,
    latest_us: int,
    ahead_us: int,
    ahead_inside_us: int,
    may_wait: bool,
    verdicts: npt.NDArray[np.int64],
) -> int:
    """Write what becomes of every run; return the latest time of the last stretch.

    Args:
        first_us: of every run.
        newest_us: of every run.
        counts: events of every run.
        has_latest: whether there was anything before.
        latest_us: the latest time before.
        ahead_us: how far ahead of it the first run may begin.
        ahead_inside_us: how far ahead of the run before it any other may begin.
        may_wait: whether a few events at the end may wait for the next message. A whole message
            never does: a new beginning is more likely than so many strays.
        verdicts: output.
    """
    total = len(first_us)
    j = 0
    while j < total:
        limit_us = ahead_us if j == 0 else ahead_inside_us
        fits = not has_latest or (
            first_us[j] >= latest_us - BACKWARD_JUMP_US and first_us[j] <= latest_us + limit_us
        )
        # Where does time come back to where it was, soon after?
        back = -1
        if has_latest and (not fits or first_us[j] > latest_us + BACKWARD_JUMP_US):
            strayed = counts[j]
            k = j + 1
            while k < total and strayed <= MAX_STRAY:
                is_back = first_us[k] >= latest_us - BACKWARD_JUMP_US
                if fits:
                    is_back = is_back and first_us[k] < first_us[j] - BACKWARD_JUMP_US
                else:
                    is_back = is_back and first_us[k] <= latest_us + ahead_inside_us
                if is_back:
                    back = k
                    break
                strayed += counts[k]
                k += 1
        if back > 0:
            verdicts[j:back] = _STRAYS
            j = back
            # What strayed was no reason to look closer at what comes after it.
            ahead_us = ahead_inside_us
            continue
        if fits:
            verdicts[j] = _CONTINUES
            latest_us = max(latest_us, newest_us[j]) if has_latest else newest_us[j]
            has_latest = True
        elif may_wait and j > 0 and counts[j:].sum() <= MAX_HELD:
            verdicts[j:] = _WAITS
            break
        else:
            verdicts[j] = _BEGINS
            latest_us = newest_us[j]
        j += 1
    return latest_us


@njit(nogil=True, cache=True)
def _deepest_fall(t_us: npt.NDArray[np.int64]) -> int:
    """Return by how much a time lies behind the newest before it, at most."""
    newest_us = t_us[0]
    deepest_us = 0
    for i in range(1, t_us.size):
        if t_us[i] > newest_us:
            newest_us = t_us[i]
        elif newest_us - t_us[i] > deepest_us:
            deepest_us = newest_us - t_us[i]
    return deepest_us

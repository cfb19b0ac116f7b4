"""All filters in one pass over the events, with state that crosses packets.

The order is fixed, and each stage sees only what the one before let through:

0. events outside of the region of interest are dropped;
1. hot pixels are dropped, before they can vouch for their neighbours;
2. refractory time: an event closer than ``refractory_us`` to the last event *that passed* at its
   pixel is dropped, of either polarity;
3. background activity: an event passes if one of its 8 neighbours fired within ``background_us``
   before it. Events that fail vouch for later ones all the same (Delbruck, "Frame-free dynamic
   digital vision", 2008; the pixel itself does not count as its neighbour, so a pixel that flickers
   alone is dropped);
4. rate limit: what is left is thinned to ``max_events_per_s``, after the noise, which so never
   costs budget.

Rate limit, the policy: sensor time is divided into slices of 10 ms. In a slice each event is kept
with the probability limit / rate of the slice before, decided by a hash of the event itself (its
place, time, polarity and a seed): uniform in space and time, no pixel or region preferred, and
reproducible, since the same events always meet the same fate. When a slice has used up its budget,
the rest of it is dropped: so no slice ever holds more than the limit, not even the first of a
flood. Thinning keeps the picture's shape at lower contrast; dropping pixels on a grid would break
thin edges, dropping packets would break time.

Every stage looks at times alone, never at packets: any split of a stream gives the same events
(only the mask that is being learned comes into force between two packets). Small steps back in time
(see ``events/stream.py``) are taken by their distance; longer ones arrive as a ``reset``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from evdistill_core.events.array import Events
from evdistill_core.events.decoders.base import Columns, KernelArray
from evdistill_core.events.filters.hot_pixels import HotPixelLearner, HotPixels
from evdistill_core.foundation.errors import ConfigError

SLICE_US = 10_000
# Far from any time of a sensor, and differences to it stay inside 64 bits.
_NEVER_US = -(1 << 61)
_NOTHING = np.zeros(1, np.int64)
_NO_MASK = HotPixels(np.zeros((1, 1), np.bool_)).mask.reshape(-1).view(np.uint8)
# Places in the tally, the settings and the limiter's state.
_HOT, _REFRACTORY, _BACKGROUND, _RATE = range(4)
_LIMIT_SLICE, _LIMIT_SEEN, _LIMIT_KEPT, _LIMIT_CHANCE = range(4)
_ALWAYS = 1 << 32


@dataclass(frozen=True)
class FilterConfig:
    """Which filters work; 0 and empty are off, and all are off by default.

    Attributes:
        hot_pixels: a known mask; used as long as the sensor has its size.
        hot_learn_ms: sensor time at the start of a stream from which hot pixels are learned.
        hot_min_hz: slower pixels are never learned to be hot.
        hot_ratio: learned ones fire more than so many times as often as those around them.
        refractory_us: shortest time between two events of a pixel.
        background_us: longest time since a neighbour fired.
        max_events_per_s: limit of what is let through.
        seed: of the limiter's choice.
        roi: x, y, width and height of the region whose events pass, pixels; a size of 0 reaches to
            the border. None: all of the sensor.
    """

    hot_pixels: HotPixels | None = None
    hot_learn_ms: int = 0
    hot_min_hz: float = 50.0
    hot_ratio: float = 10.0
    refractory_us: int = 0
    background_us: int = 0
    max_events_per_s: int = 0
    seed: int = 0
    roi: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what is below zero."""
        for name, value in (
            ("hot_learn_ms", self.hot_learn_ms),
            ("hot_min_hz", self.hot_min_hz),
            ("hot_ratio", self.hot_ratio),
            ("refractory_us", self.refractory_us),
            ("background_us", self.background_us),
            ("max_events_per_s", self.max_events_per_s),
        ):
            if not value >= 0:
                raise ConfigError(f"{name} must be 0 (off) or more, got {value}")

    @property
    def is_off(self) -> bool:
        """Whether every event passes."""
        wanted = (
            self.roi, self.hot_learn_ms, self.refractory_us, self.background_us,
            self.max_events_per_s,
        )  # fmt: skip
        return self.hot_pixels is None and not any(wanted)


@dataclass
class FilterCounters:
    """What was removed, by the stage that did it.

    ``pushed`` less ``outside_roi``, ``hot_pixel``, ``refractory``, ``background`` and
    ``rate_limit`` passed.

    Attributes:
        pushed: events taken in while any filter was on.
        outside_roi: removed for lying outside of the region of interest.
        hot_pixel: removed at hot pixels.
        refractory: removed for following too soon at their pixel.
        background: removed because no neighbour vouched for them.
        rate_limit: removed to keep the rate.
        unusable_masks: times that the given mask did not have the sensor's size.
        hot_pixels: pixels in the mask in force (not a count of events; 0 while there is none).
    """

    pushed: int = 0
    outside_roi: int = 0
    hot_pixel: int = 0
    refractory: int = 0
    background: int = 0
    rate_limit: int = 0
    unusable_masks: int = 0
    hot_pixels: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class EventFilters:
    """Filters the events of one stream, in their order.

    Args:
        config: see ``FilterConfig``; ``configure`` changes it.

    Attributes:
        counters: updated by every call.
        hot_pixels: the mask in force, given or learned; None while there is none.
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        self.counters = FilterCounters()
        self.hot_pixels: HotPixels | None = None
        self._size = (0, 0)
        self._learner: HotPixelLearner | None = None
        self._mask = _NO_MASK
        self._fired, self._seen = _NOTHING.copy(), _NOTHING.copy()
        self._limiter = np.zeros(4, np.int64)
        self.reset()

    def configure(self, config: FilterConfig) -> None:
        """Take new settings from the next event on; stages that stay keep their state."""
        before, self.config = self.config, config
        if config == before:
            return
        if _hot_settings(config) != _hot_settings(before):
            self._begin_hot_pixels()
        self._allocate()

    def reset(self) -> None:
        """Sensor time broke off: forget when pixels fired. What is hot stays hot."""
        self._fired.fill(_NEVER_US)
        self._seen.fill(_NEVER_US)
        self._limiter[:] = (_NEVER_US, 0, 0, _ALWAYS)
        if self._learner is not None:
            self._learner.interrupt()

    def __call__(self, events: Events) -> Events:
        """Return what passes; the same object when nothing is on."""
        config = self.config
        if config.is_off:
            return events
        self.counters.pushed += len(events)
        events = self._of_region(events)
        if not len(events) or replace(config, roi=None).is_off:
            return events
        if self._size != (events.width, events.height):
            self._size = (events.width, events.height)
            self._begin_hot_pixels()
            self._allocate()
            self.reset()
        self._learn(events)
        columns = Columns.room(len(events))
        tally = np.zeros(4, np.int64)
        budget = -(-config.max_events_per_s * SLICE_US // 1_000_000)
        count = _filter(
            events.x, events.y, events.t_us, events.p, events.width,
            self._mask, self._fired, self._seen, self._limiter, self.hot_pixels is not None,
            config.refractory_us, config.background_us, budget, config.seed,
            tally, columns.x, columns.y, columns.t_us, columns.p,
        )  # fmt: skip
        self._add_up(tally.tolist())
        passed = columns.events(count, events.width, events.height)
        # A view of the few that passed would keep the room of all that came.
        return passed if 2 * count > len(events) else passed[np.arange(count)]

    def _of_region(self, events: Events) -> Events:
        if self.config.roi is None or not len(events):
            return events
        left, top, width, height = self.config.roi
        right, bottom = left + (width or events.width), top + (height or events.height)
        x, y = events.x, events.y
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        passed = events[inside]
        self.counters.outside_roi += len(events) - len(passed)
        return passed

    def _add_up(self, tally: list[int]) -> None:
        self.counters.hot_pixel += tally[_HOT]
        self.counters.refractory += tally[_REFRACTORY]
        self.counters.background += tally[_BACKGROUND]
        self.counters.rate_limit += tally[_RATE]

    def _begin_hot_pixels(self) -> None:
        width, height = self._size
        given = self.config.hot_pixels
        self.hot_pixels = self._learner = None
        self.counters.hot_pixels = 0
        if not width:
            return
        if given is not None and given.mask.shape == (height, width):
            self._use(given)
            return
        self.counters.unusable_masks += given is not None
        if self.config.hot_learn_ms:
            self._learner = HotPixelLearner(width, height)

    def _use(self, pixels: HotPixels) -> None:
        self.hot_pixels = pixels
        self.counters.hot_pixels = pixels.count
        self._mask = pixels.mask.reshape(-1).view(np.uint8)

    def _learn(self, events: Events) -> None:
        """Count until enough time has passed; the events that complete it are judged already."""
        config, learner = self.config, self._learner
        if learner is None:
            return
        learner.add(events)
        if learner.span_us >= config.hot_learn_ms * 1000:
            self._use(
                HotPixels.from_counts(
                    learner.counts,
                    learner.span_us,
                    min_hz=config.hot_min_hz,
                    ratio=config.hot_ratio,
                )
            )
            self._learner = None

    def _allocate(self) -> None:
        """Give each stage that is on its map of last times, with a border of one pixel."""
        width, height = self._size
        if not width:
            return
        room = (width + 2) * (height + 2)
        self._fired = _map(self._fired, room, on=self.config.refractory_us > 0)
        self._seen = _map(self._seen, room, on=self.config.background_us > 0)


def load_hot_pixels(path: str) -> HotPixels | None:
    """Return the mask of a file; None for an empty path."""
    return HotPixels.load(Path(path).expanduser()) if path else None


def warm_up() -> None:
    """Compile the kernels ahead of the first event (see ``events/warm_up.py``)."""
    place, one = np.zeros(2, np.uint16), np.zeros(2, np.uint8)
    events = Events(place, place, np.zeros(2, np.int64), one, 1, 1)
    EventFilters(FilterConfig(hot_learn_ms=1, refractory_us=1))(events)
    HotPixels.from_counts(np.zeros((1, 1), np.int64), 1, min_hz=1.0, ratio=1.0)


def _hot_settings(config: FilterConfig) -> tuple[object, ...]:
    return (id(config.hot_pixels), config.hot_learn_ms, config.hot_min_hz, config.hot_ratio)


def _map(current: KernelArray, room: int, *, on: bool) -> KernelArray:
    if not on:
        return _NOTHING.copy()
    return current if current.size == room else np.full(room, _NEVER_US, np.int64)


@njit(nogil=True, cache=True, inline="always")
def _near(last_us: Any, t: Any, span_us: int) -> Any:
    # One comparison: what lies before the span is a very large unsigned number.
    return np.uint64(last_us - (t - span_us)) <= np.uint64(2 * span_us)


@njit(nogil=True, cache=True, inline="always")
def _hash(x: Any, y: Any, t: Any, p: Any, seed: int) -> Any:
    """Return 32 well mixed bits (the finisher of splitmix64)."""
    h = np.uint64(t) * np.uint64(0x9E3779B97F4A7C15)
    h ^= np.uint64(x) << np.uint64(32) | np.uint64(y) << np.uint64(16) | np.uint64(p)
    h += np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(h >> np.uint64(32))


@njit(nogil=True, cache=True, inline="always")
def _within_budget(limiter: KernelArray, t: int, budget: int, draw: int) -> Any:
    """Decide one event; the limiter holds slice, seen and kept in it, and chance of 2**32."""
    place = t // SLICE_US
    if place > limiter[_LIMIT_SLICE]:
        seen = limiter[_LIMIT_SEEN] if place == limiter[_LIMIT_SLICE] + 1 else 0
        limiter[_LIMIT_CHANCE] = (budget << 32) // seen if seen > budget else _ALWAYS
        limiter[_LIMIT_SLICE], limiter[_LIMIT_SEEN], limiter[_LIMIT_KEPT] = place, 0, 0
    limiter[_LIMIT_SEEN] += 1
    kept = draw < limiter[_LIMIT_CHANCE] and limiter[_LIMIT_KEPT] < budget
    limiter[_LIMIT_KEPT] += kept
    return kept


@njit(nogil=True, cache=True)
def _filter(
    x: KernelArray,
    y: KernelArray,
    t_us: KernelArray,
    p: KernelArray,
    width: int,
    mask: KernelArray,
    fired: KernelArray,
    seen: KernelArray,
    limiter: KernelArray,
    masked: bool,
    refractory_us: int,
    background_us: int,
    budget: int,
    seed: int,
    tally: KernelArray,
    out_x: KernelArray,
    out_y: KernelArray,
    out_t: KernelArray,
    out_p: KernelArray,
) -> int:
    stride = np.uintp(width + 2)
    one = np.uintp(1)
    hot: Any = 0
    refractory: Any = 0
    background: Any = 0
    limited: Any = 0
    count: Any = 0
    for i in range(x.size):
        column, row, t = np.uintp(x[i]), np.uintp(y[i]), t_us[i]
        if masked and mask[row * np.uintp(width) + column]:
            hot += 1
            continue
        at = (row + one) * stride + column + one
        if refractory_us > 0:
            if _near(fired[at], t, refractory_us - 1):
                refractory += 1
                continue
            fired[at] = t
        if background_us > 0:
            above, below = at - stride, at + stride
            vouched = _near(seen[above - one], t, background_us)
            vouched |= _near(seen[above], t, background_us)
            vouched |= _near(seen[above + one], t, background_us)
            vouched |= _near(seen[at - one], t, background_us)
            vouched |= _near(seen[at + one], t, background_us)
            vouched |= _near(seen[below - one], t, background_us)
            vouched |= _near(seen[below], t, background_us)
            vouched |= _near(seen[below + one], t, background_us)
            seen[at] = t
            if not vouched:
                background += 1
                continue
        if budget > 0 and not _within_budget(limiter, t, budget, _hash(x[i], y[i], t, p[i], seed)):
            limited += 1
            continue
        to = np.uintp(count)
        out_x[to] = x[i]
        out_y[to] = y[i]
        out_t[to] = t
        out_p[to] = p[i]
        count += 1
    tally[_HOT], tally[_REFRACTORY] = hot, refractory
    tally[_BACKGROUND], tally[_RATE] = background, limited
    return int(count)

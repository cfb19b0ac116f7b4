"""Changes to a window of events and its labels that leave it a window a sensor could have seen.

All of them work on events, before the representation: the network never sees an interpolated
representation that no sensor gives. Time reversal is not among them: labels stand at the end of a
window, and reversed events would need those of its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import IGNORE
from evdistill_core.foundation.ranges import check_crop, check_intervals, check_ranges

L = TypeVar("L", np.uint8, np.uint16)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Which changes, and how likely.

    Attributes:
        flip: probability of a left-right mirror.
        invert: probability of swapped polarities (the scene with inverse contrast).
        clutter: probability of patches of uncorrelated events, as real sensors show on dark or
            flickering surfaces. Labels stay.
        clutter_hz: (low, high) of their rate per pixel, log-uniform.
        dropout: largest share of events that is dropped; the share is drawn from 0..dropout.
        scale: (low, high) of a random shrink, 0.1..1: a sensor with fewer pixels.
        crop: (height, width) of a random crop; smaller windows are padded with ignored pixels;
            (0, 0) keeps the size.
    """

    flip: float = 0.0
    invert: float = 0.0
    clutter: float = 0.0
    clutter_hz: tuple[float, float] = (0.5, 15.0)
    dropout: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Refuse probabilities and sizes out of range."""
        check_ranges(
            self,
            flip=(0, 1),
            invert=(0, 1),
            clutter=(0, 1),
            dropout=(0, 1),
            crop=(0, 8192),
        )
        check_intervals(self, clutter_hz=(1e-6, 1000), scale=(0.1, 1))
        check_crop(self.crop)


def augment(  # noqa: PLR0913 - numbers by name
    events: Events,
    labels: npt.NDArray[L],
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    span_us: tuple[int, int],
    outside: int = IGNORE,
) -> tuple[Events, npt.NDArray[L]]:
    """Return a changed window; the same generator state gives the same change.

    Args:
        events: of one window. Not modified.
        labels: (H, W) uint8 of the same size. Not modified.
        config: which changes.
        rng: draws whether and how much of each change.
        span_us: start and end of the window.
        outside: label of what a crop adds.
    """
    events, (moved,) = augment_with(events, [(labels, outside)], config, rng, span_us=span_us)
    return events, moved


def augment_with(
    events: Events,
    maps: Sequence[tuple[npt.NDArray[Any], int]],
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    span_us: tuple[int, int],
) -> tuple[Events, list[npt.NDArray[Any]]]:
    """Return a changed window with everything that is known of its pixels, moved alike.

    Args:
        events: as for ``augment``; so are ``config``, ``rng`` and ``span_us``.
        maps: labels, numbers of things, an image: (H, W) each, and what a crop adds to it. Not
            modified.
        config: which changes.
        rng: draws whether and how much of each change.
        span_us: start and end of the window.
    """
    values = [m for m, _ in maps]
    mirrored, inverted = rng.random() < config.flip, rng.random() < config.invert
    share, factor = rng.uniform(0.0, config.dropout), rng.uniform(*config.scale)
    place, cluttered = rng.random(2), rng.random() < config.clutter
    if cluttered:
        events = add_clutter(events, config.clutter_hz, span_us, rng)
    if config.dropout > 0:
        events = drop_events(events, share, rng)
    if mirrored:
        events, values = _flipped(events), [_flipped_map(v) for v in values]
    if inverted:
        events = _with(events, p=(1 - events.p).astype(np.uint8))
    if factor < 1:
        values = [_shrunk_map(v, factor) for v in values]
        events = _shrunk(events, factor)
    if config.crop != (0, 0):
        where = (float(place[0]), float(place[1]))
        values = [
            _cropped_map(v, config.crop, where, o) for v, (_, o) in zip(values, maps, strict=True)
        ]
        events = _cropped(events, config.crop, where)
    return events, values


def flip(events: Events, labels: npt.NDArray[L]) -> tuple[Events, npt.NDArray[L]]:
    """Return the left-right mirror."""
    return _flipped(events), _flipped_map(labels)


def _flipped(events: Events) -> Events:
    return _with(events, x=(events.width - 1 - events.x).astype(np.uint16))


def _flipped_map(values: npt.NDArray[L]) -> npt.NDArray[L]:
    return np.ascontiguousarray(values[:, ::-1])


def drop_events(events: Events, share: float, rng: np.random.Generator) -> Events:
    """Return the events without a random share of them."""
    kept = rng.random(len(events)) >= share
    return Events(
        events.x[kept],
        events.y[kept],
        events.t_us[kept],
        events.p[kept],
        events.width,
        events.height,
    )


def add_clutter(
    events: Events,
    rate_hz: tuple[float, float],
    span_us: tuple[int, int],
    rng: np.random.Generator,
) -> Events:
    """Return the events and those of one to three noisy patches, sorted by time.

    A patch is a rectangle, an ellipse or a cloud, a tenth to three fifths of the frame in size,
    its events independent of one another.
    """
    columns = [events]
    for _ in range(rng.integers(1, 4)):
        rate = float(np.exp(rng.uniform(*np.log(rate_hz))))
        shape = _patch(events.height, events.width, rng)
        expected = rate * (span_us[1] - span_us[0]) * 1e-6 * shape
        y, x = np.nonzero(rng.random(shape.shape) < expected)
        t_us = rng.integers(span_us[0], span_us[1], len(x))
        p = rng.random(len(x)) < rng.uniform(0.2, 0.8)
        columns.append(Events.from_columns(x, y, t_us, p, width=events.width, height=events.height))
    joined = Events.concatenate(columns)
    return joined[np.argsort(joined.t_us, kind="stable")]


def _patch(height: int, width: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    size = rng.uniform(0.05, 0.3, 2) * (height, width)
    v = (rows - rng.uniform(0, height)) / size[0]
    u = (columns - rng.uniform(0, width)) / size[1]
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) < 1, np.float32)
    if kind == 1:
        return np.asarray(np.hypot(u, v) < 1, np.float32)
    return np.asarray(np.exp(-(u * u + v * v)), np.float32)


def shrink(events: Events, labels: npt.NDArray[L], factor: float) -> tuple[Events, npt.NDArray[L]]:
    """Return the window on a sensor with ``factor`` times the rows and columns.

    Events keep their number; labels are picked at cell centres.
    """
    return _shrunk(events, factor), _shrunk_map(labels, factor)


def _shrunk(events: Events, factor: float) -> Events:
    height = max(1, round(events.height * factor))
    width = max(1, round(events.width * factor))
    x = (events.x.astype(np.int64) * width // events.width).astype(np.uint16)
    y = (events.y.astype(np.int64) * height // events.height).astype(np.uint16)
    return Events(x, y, events.t_us, events.p, width, height)


def _shrunk_map(values: npt.NDArray[L], factor: float) -> npt.NDArray[L]:
    sizes = [(whole, max(1, round(whole * factor))) for whole in values.shape]
    rows, columns = (
        ((np.arange(size) + 0.5) * whole / size).astype(np.int64) for whole, size in sizes
    )
    picked: npt.NDArray[L] = values[rows[:, None], columns[None]]
    return picked


def crop(
    events: Events,
    labels: npt.NDArray[L],
    size: tuple[int, int],
    place: tuple[float, float],
    outside: int = IGNORE,
) -> tuple[Events, npt.NDArray[L]]:
    """Return a crop; missing rows and columns are added below and right.

    Args:
        events: of one window.
        labels: (H, W) uint8.
        size: (height, width) of the result.
        place: (row, column) position of the crop, 0 at the top left, below 1 at the far end.
        outside: label of what is added.
    """
    return _cropped(events, size, place), _cropped_map(labels, size, place, outside)


def _corner(
    whole: tuple[int, ...], size: tuple[int, int], place: tuple[float, float]
) -> tuple[int, int]:
    """Return top and left of a crop."""
    top, left = (int(p * (max(0, w - s) + 1)) for p, w, s in zip(place, whole, size, strict=True))
    return top, left


def _cropped(events: Events, size: tuple[int, int], place: tuple[float, float]) -> Events:
    height, width = size
    top, left = _corner((events.height, events.width), size, place)
    x, y = events.x.astype(np.int64) - left, events.y.astype(np.int64) - top
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return Events(
        x[inside].astype(np.uint16),
        y[inside].astype(np.uint16),
        events.t_us[inside],
        events.p[inside],
        width,
        height,
    )


def _cropped_map(
    values: npt.NDArray[L], size: tuple[int, int], place: tuple[float, float], outside: int
) -> npt.NDArray[L]:
    top, left = _corner(values.shape, size, place)
    part = values[top : top + size[0], left : left + size[1]]
    padding = ((0, size[0] - part.shape[0]), (0, size[1] - part.shape[1]))
    return np.asarray(np.pad(part, padding, constant_values=outside), values.dtype)


def _with(
    events: Events,
    *,
    x: npt.NDArray[np.uint16] | None = None,
    p: npt.NDArray[np.uint8] | None = None,
) -> Events:
    return Events(
        events.x if x is None else x,
        events.y,
        events.t_us,
        events.p if p is None else p,
        events.width,
        events.height,
    )

"""The event array: four columns of one sensor's events, read-only.

Conventions of the whole project: time is microseconds of sensor time, unwrapped, int64; polarity
is 0 (darker) or 1 (brighter) in uint8, a sign is computed and never stored; intervals are half
open; times usually rise but nothing here asserts it, because sensors and networks break it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import EventsError
from evdistill_core.foundation.ranges import is_integer

TIME_LIMIT_US = 1 << 62
MOST_PIXELS = 1 << 16  # coordinates are uint16
_CURES = {
    "t_us": ": seconds become microseconds with np.rint(t * 1e6)",
    "p": ": write p > 0",
}
_FIELDS = {
    "t": ("t", "ts", "t_us", "timestamp"),
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity", "on"),
}


@dataclass(frozen=True, eq=False, repr=False)
class Events:
    """Events of one sensor.

    Attributes:
        x: (N,) uint16, column, 0 .. width - 1.
        y: (N,) uint16, row, 0 .. height - 1.
        t_us: (N,) int64, microseconds of sensor time.
        p: (N,) uint8, 1 brighter, 0 darker.
        width: columns of the sensor.
        height: rows of the sensor.

    All four arrays are made read-only views; the caller's arrays stay as they are.
    """

    x: npt.NDArray[np.uint16]
    y: npt.NDArray[np.uint16]
    t_us: npt.NDArray[np.int64]
    p: npt.NDArray[np.uint8]
    width: int
    height: int

    def __post_init__(self) -> None:
        """Fix the dtypes and refuse columns of different length."""
        count = len(self.t_us)
        for name, dtype in (
            ("x", np.uint16),
            ("y", np.uint16),
            ("t_us", np.int64),
            ("p", np.uint8),
        ):
            column = np.asarray(getattr(self, name))
            if column.shape != (count,):
                raise EventsError(f"column {name} has shape {column.shape}, expected ({count},)")
            if column.dtype != dtype:
                raise EventsError(f"column {name} has dtype {column.dtype}, expected {dtype}")
            view = column.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @staticmethod
    def of_views(  # noqa: PLR0913, PLR0917 - four columns, a size, and what is known
        x: npt.NDArray[np.uint16],
        y: npt.NDArray[np.uint16],
        t_us: npt.NDArray[np.int64],
        p: npt.NDArray[np.uint8],
        width: int,
        height: int,
        in_order: bool | None = None,
    ) -> Events:
        """Return events of columns that nobody else writes to, without any check.

        For parts of events and for what decoders made, some thousand times a second. The arrays
        themselves become read-only.

        Args:
            x: as in ``Events``; all four have these dtypes and one length.
            y: the same.
            t_us: the same.
            p: the same.
            width: columns of the sensor.
            height: rows of the sensor.
            in_order: as the property, where it is known.
        """
        for column in (x, y, t_us, p):
            column.flags.writeable = False
        made = object.__new__(Events)
        made.__dict__.update(
            x=x, y=y, t_us=t_us, p=p, width=width, height=height, _in_order=in_order
        )
        return made

    @property
    def in_order(self) -> bool:
        """Whether no time lies before the one before it; looked up once."""
        known: bool | None = self.__dict__.get("_in_order")
        if known is None:
            known = bool((self.t_us[1:] >= self.t_us[:-1]).all())
            self.__dict__["_in_order"] = known
        return known

    @staticmethod
    def empty(width: int, height: int) -> Events:
        """Return an array of no events."""
        return Events(
            np.empty(0, np.uint16),
            np.empty(0, np.uint16),
            np.empty(0, np.int64),
            np.empty(0, np.uint8),
            width,
            height,
        )

    @staticmethod
    def from_columns(  # noqa: PLR0913 - four columns and a size
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        t_us: npt.ArrayLike,
        p: npt.ArrayLike,
        *,
        width: int,
        height: int,
    ) -> Events:
        """Check and convert columns of any numeric dtype.

        Args:
            x: columns, whole numbers in 0 .. width - 1.
            y: rows, whole numbers in 0 .. height - 1.
            t_us: microseconds, whole numbers.
            p: booleans, 0/1 or -1/1; above 0 means brighter.
            width: columns of the sensor.
            height: rows of the sensor.

        Raises:
            EventsError: a coordinate lies outside the frame, a number is NaN or not whole,
                a polarity is not 0, 1 or -1, or columns differ in length.
        """
        for name, size in (("width", width), ("height", height)):
            if not (is_integer(size) and 0 <= size <= MOST_PIXELS):
                raise EventsError(
                    f"{name} must be a whole number of pixels, 0..{MOST_PIXELS}, got {size!r}"
                )
        return Events(
            _whole("x", x, 0, width - 1).astype(np.uint16),
            _whole("y", y, 0, height - 1).astype(np.uint16),
            _whole("t_us", t_us, -TIME_LIMIT_US, TIME_LIMIT_US).astype(np.int64),
            (_whole("p", p, -1, 1) > 0).astype(np.uint8),
            int(width),
            int(height),
        )

    @staticmethod
    def concatenate(parts: Sequence[Events]) -> Events:
        """Join parts of one sensor in the given order (one part is returned as it is).

        Raises:
            EventsError: there is no part, or the parts differ in frame size.
        """
        if not parts:
            raise EventsError("cannot concatenate zero parts: the frame size would be unknown")
        first = parts[0]
        if len(parts) == 1:
            return first
        sizes = {(e.width, e.height) for e in parts}
        if len(sizes) != 1:
            raise EventsError(f"parts have different frame sizes (width, height): {sorted(sizes)}")
        return Events.of_views(
            np.concatenate([e.x for e in parts]),
            np.concatenate([e.y for e in parts]),
            np.concatenate([e.t_us for e in parts]),
            np.concatenate([e.p for e in parts]),
            first.width,
            first.height,
        )

    def __len__(self) -> int:
        return len(self.t_us)

    def __getitem__(self, index: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Events:
        """Return a part: a slice gives views, a mask or index array gives copies."""
        if isinstance(index, slice) and index.step is None:
            # A part of what is in order is in order; of what is not, nobody knows.
            known = self.__dict__.get("_in_order") or None
            return Events.of_views(
                self.x[index], self.y[index], self.t_us[index], self.p[index],
                self.width, self.height, known,
            )  # fmt: skip
        return Events(
            self.x[index], self.y[index], self.t_us[index], self.p[index], self.width, self.height
        )

    @staticmethod
    def from_structured(array: npt.NDArray[np.void], *, width: int = 0, height: int = 0) -> Events:
        """Return the events of a structured array, as NumPy, tonic, Metavision and faery have it.

        Args:
            array: (N,), fields for time in microseconds (``t``, ``ts``, ``t_us``, ``timestamp``),
                column (``x``), row (``y``) and polarity (``p``, ``pol``, ``polarity`` or ``on``).
            width: columns of the sensor; 0: one more than the largest column.
            height: rows of the sensor; 0: one more than the largest row.

        Raises:
            EventsError: a field is missing, or as ``from_columns``.
        """
        names = array.dtype.names or ()
        columns = []
        for known in _FIELDS.values():
            found = [name for name in known if name in names]
            if not found:
                raise EventsError(
                    f"a structured array of events needs a field {' or '.join(known)}, "
                    f"got {', '.join(names) or 'an array without fields'}"
                )
            columns.append(array[found[0]])
        t_us, x, y, p = columns
        return Events.from_columns(
            x,
            y,
            t_us,
            p,
            width=width or (int(x.max()) + 1 if len(x) else 1),
            height=height or (int(y.max()) + 1 if len(y) else 1),
        )

    def to_structured(self) -> npt.NDArray[np.void]:
        """Return (N,) with the fields ``t`` i8, ``x`` u2, ``y`` u2, ``p`` u1; a copy."""
        array = np.empty(len(self), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
        for name, column in (("t", self.t_us), ("x", self.x), ("y", self.y), ("p", self.p)):
            array[name] = column
        return array

    def __repr__(self) -> str:
        head = f"Events({len(self):,} events, {self.width}x{self.height}"
        if not len(self):
            return f"{head})"
        first, last = int(self.t_us.min()) / 1e6, int(self.t_us.max()) / 1e6
        return f"{head}, {first:.6f} .. {last:.6f} s, {self.p.mean():.0%} ON)"

    def equals(self, other: Events) -> bool:
        """Tell whether size and every event are equal."""
        return (self.width, self.height) == (other.width, other.height) and all(
            np.array_equal(getattr(self, c), getattr(other, c)) for c in ("x", "y", "t_us", "p")
        )


def _whole(name: str, column: npt.ArrayLike, low: int, high: int) -> npt.NDArray[Any]:
    """Return a column whose numbers are whole and within low .. high."""
    array = np.asarray(column)
    if array.dtype.kind not in "biuf":
        raise EventsError(f"{name} must hold numbers, got the dtype {array.dtype}")
    if not array.size or array.dtype.kind == "b":
        return array
    least, most = array.min(), array.max()
    # Both are NaN where a single number is.
    if not (least >= low and most <= high):
        raise EventsError(
            f"{name} must lie in {low}..{high}, got {least}..{most}{_CURES.get(name, '')}"
        )
    if array.dtype.kind == "f" and not np.equal(np.trunc(array), array).all():
        wrong = array[np.trunc(array) != array][0]
        raise EventsError(
            f"{name} must hold whole numbers, got {wrong}{_CURES.get(name, ': round them first')}"
        )
    return array


@dataclass(frozen=True, eq=False)
class Triggers:
    """Edges on the external trigger input.

    Attributes:
        t_us: (N,) int64, microseconds of sensor time.
        channel: (N,) uint8, id of the input.
        edge: (N,) uint8, 1 rising, 0 falling.
    """

    t_us: npt.NDArray[np.int64]
    channel: npt.NDArray[np.uint8]
    edge: npt.NDArray[np.uint8]

    @staticmethod
    def empty() -> Triggers:
        """Return an array of no edges."""
        return Triggers(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.uint8))

    @staticmethod
    def concatenate(parts: Sequence[Triggers]) -> Triggers:
        """Join parts in the given order; no parts give no edges."""
        if not parts:
            return Triggers.empty()
        return Triggers(
            np.concatenate([e.t_us for e in parts]),
            np.concatenate([e.channel for e in parts]),
            np.concatenate([e.edge for e in parts]),
        )

    def __len__(self) -> int:
        return len(self.t_us)

"""Which column is which: told by names, by the user, or by the values.

Files of plain numbers hold t, x, y and p in every order. Values tell them apart: polarities are two
numbers, coordinates are small whole numbers, times rise. Where more than one order fits and the
usual one does not, the file is refused: a wrong guess would look like a recording.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.read_options import IGNORED, TIME_UNITS_US

Array = npt.NDArray[Any]
COUNT = 4
_NAMES: Mapping[str, frozenset[str]] = {
    "t": frozenset({"t", "ts", "time", "times", "timestamp", "timestamps", "stamp"}),
    "x": frozenset({"x", "xs", "xpos", "xcoord", "col", "column"}),
    "y": frozenset({"y", "ys", "ypos", "ycoord", "row"}),
    "p": frozenset({"p", "ps", "pol", "pols", "polarity", "polarities", "on", "sign"}),
}
_POLARITIES = ((0, 1), (-1, 1), (-1, 0, 1))
#: So much of a column must look like coordinates; a few events may lie anywhere.
_MOST = 0.75


@dataclass(frozen=True)
class Order:
    """Which column is which.

    Attributes:
        letters: one a column: t, x, y, p, or ``-`` for one that is not read.
        unit: of the times where the name of their column tells it, else "".
        note: a warning for the user, "" if there is none.
    """

    letters: str
    unit: str = ""
    note: str = ""

    def pick(self, columns: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        """Return t, x, y, p of columns in the order of the file."""
        t, x, y, p = (columns[self.letters.index(letter)] for letter in "txyp")
        return t, x, y, p


def role_of(name: str) -> tuple[str, str]:
    """Return the letter and the unit of time that a name stands for; ("", "") for others."""
    words = re.findall(r"[a-z]+", name.lower().replace("µ", "u").replace("microseconds", "us"))
    unit = next((word for word in words[1:] if word in TIME_UNITS_US), "")
    plain = "".join(word for i, word in enumerate(words) if not i or word != unit)
    letter = next((role for role, names in _NAMES.items() if plain in names), "")
    return (letter, unit if letter == "t" else "") if letter else ("", "")


def named_order(names: Sequence[str]) -> Order | None:
    """Return the order that the names of columns tell; None if they lack one of t, x, y, p."""
    roles = [role_of(name) for name in names]
    letters = [letter or IGNORED for letter, _ in roles]
    if any(letters.count(letter) != 1 for letter in "txyp"):
        return None
    return Order("".join(letters), roles[letters.index("t")][1])


def refuse_order(path: Path, given: str) -> None:
    """Refuse ``--columns`` for columns that have names.

    Raises:
        RecordingError: ``given`` is not "".
    """
    if given:
        raise RecordingError(f"{path}: its columns have names; --columns has no meaning for them")


def lacking(names: Sequence[str]) -> str:
    """Return which of t, x, y, p no name stands for, as text."""
    found = {role_of(name)[0] for name in names}
    return ", ".join(letter for letter in "txyp" if letter not in found)


@np.errstate(invalid="ignore", over="ignore")  # damaged numbers are told by what they are not
def told_order(path: Path, columns: Sequence[Array], usual: str, given: str = "") -> Order:
    """Tell the order of columns without names.

    Args:
        path: for the error.
        columns: the first rows of every column, numbers.
        usual: the order that files of this kind have, four letters.
        given: what the user says, as in ``ReadOptions.columns``; "" for nothing.

    Raises:
        RecordingError: too few columns, the user's order has another number of them, or values
            that fit no order or several.
    """
    if given:
        if len(given) != len(columns):
            raise RecordingError(
                f"{path} has {len(columns)} columns, --columns {given} names {len(given)}: write "
                "one letter a column, - for one to ignore"
            )
        return Order(given)
    if len(columns) < COUNT:
        raise RecordingError(f"{path} has {len(columns)} columns; events need four: t, x, y and p")
    extra = len(columns) - COUNT
    traits = [_Traits.of(column) for column in columns[:COUNT]]
    fits = [order for order in _orders() if _fits(order, traits, strict=order != usual)]
    ignored = ""
    if extra:
        fits = [order for order in fits if order == usual]
        ignored = f"columns after the fourth are not read ({extra}); --columns tells others"
    if usual in fits and (len(fits) == 1 or traits[usual.index("t")].is_time):
        return Order(usual + IGNORED * extra, note=ignored)
    others = [order for order in fits if order != usual]
    if len(others) == 1:
        note = (
            f"columns are read as {', '.join(others[0])}, by their values; set them with --columns"
        )
        return Order(others[0], note=note)
    raise RecordingError(
        f"{path}: which columns are t, x, y and p is not clear. Say it with --columns, for example "
        f"--columns xypt. {_described(columns)}"
    )


def _orders() -> list[str]:
    """Return the orders that occur: x stands before y."""
    every = ("".join(letters) for letters in permutations("txyp"))
    return [order for order in every if order.index("x") < order.index("y")]


@dataclass(frozen=True)
class _Traits:
    """What the first values of a column look like.

    Attributes:
        is_polarity: nothing but 0 and 1, or -1 and 1.
        is_place: whole numbers that fit on a sensor, nearly all of them.
        is_near_place: numbers that fit on a sensor, with or without fractions.
        rises: it never falls, and does not stay what it was.
    """

    is_polarity: bool
    is_place: bool
    is_near_place: bool
    rises: bool

    @property
    def is_time(self) -> bool:
        """Nothing a coordinate could be, or rising."""
        return not self.is_place or self.rises

    @staticmethod
    def of(column: Array) -> _Traits:
        values = column.astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return _Traits(is_polarity=True, is_place=True, is_near_place=True, rises=True)
        inside = (values > -1) & (values < MAX_SIDE)
        is_place = float(np.mean(inside & (np.trunc(values) == values))) >= _MOST
        is_near_place = float(np.mean(inside)) >= _MOST
        rises = bool((np.diff(values) >= 0).all()) and (len(values) < 2 or values[-1] > values[0])
        distinct = np.unique(values[:10_000])
        is_polarity = any(set(distinct.tolist()) <= set(pair) for pair in _POLARITIES)
        return _Traits(is_polarity, is_place, is_near_place, rises)


def _fits(order: str, traits: Sequence[_Traits], *, strict: bool) -> bool:
    """Tell whether values fit an order; the usual one may have times that fall here and there."""
    of = {letter: traits[i] for i, letter in enumerate(order)}
    if not of["p"].is_polarity:
        return False
    if strict:
        return of["t"].is_time and of["x"].is_place and of["y"].is_place
    if of["x"].is_place and of["y"].is_place:
        return True  # times may be unsorted
    places = (of["x"], of["y"])
    return of["t"].is_time and all(p.is_near_place and not p.rises for p in places)


def _described(columns: Sequence[Array]) -> str:
    found = []
    for number, column in enumerate(columns, start=1):
        values = column[np.isfinite(column.astype(np.float64))]
        if not len(values):
            found.append(f"column {number}: no numbers")
            continue
        low, high = values.min(), values.max()
        rises = "rising" if len(values) > 1 and (np.diff(values) >= 0).all() else "not rising"
        found.append(f"column {number}: {low:g} .. {high:g}, {rises}")
    return "; ".join(found)

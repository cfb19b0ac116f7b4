"""What a user can say of a file that does not say it itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from evdistill_core.events.decoders.base import MAX_SIDE
from evdistill_core.foundation.errors import ConfigError, RecordingError

#: microseconds in one unit of time
TIME_UNITS_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
#: how the command line writes each field of ``ReadOptions``
FLAGS = {
    "columns": "--columns",
    "time_unit": "--time-unit",
    "size": "--size",
    "camera": "--camera",
}
IGNORED = "-"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a file; what is not given is told by the file.

    Attributes:
        columns: one letter a column: each of ``t``, ``x``, ``y``, ``p`` once, ``-`` for a column
            to ignore; "" if the values tell.
        time_unit: ``ns``, ``us``, ``ms`` or ``s``; "" if the file tells.
        size: width and height of the sensor in pixels; None if the file tells.
        camera: name of the camera, as ``--camera`` takes it; "" if the file tells.
    """

    columns: str = ""
    time_unit: str = ""
    size: tuple[int, int] | None = None
    camera: str = ""

    @staticmethod
    def parse(
        *,
        columns: str | None = None,
        time_unit: str | None = None,
        size: str | Sequence[int] | None = None,
        camera: str | None = None,
    ) -> ReadOptions:
        """Check what a user wrote.

        Args:
            columns: ``txyp``, ``x,y,p,t`` and so on.
            time_unit: ``ns``, ``us``, ``ms`` or ``s``.
            size: ``"640x480"``, or (640, 480).
            camera: any text; the reader knows which names there are.

        Raises:
            ConfigError: a value that is none of these.
        """
        return ReadOptions(
            columns=_columns(columns or ""),
            time_unit=_time_unit(time_unit or ""),
            size=None if size is None else _size(size),
            camera=(camera or "").strip(),
        )

    def refuse_all_but(self, taken: frozenset[str], path: Path, kind: str) -> None:
        """Refuse options that a kind of file has no use for.

        Raises:
            RecordingError: an option is given that is not in ``taken``.
        """
        given = [f.name for f in fields(self) if getattr(self, f.name)]
        for name in given:
            if name not in taken:
                known = ", ".join(FLAGS[n] for n in FLAGS if n in taken)
                cure = f"it takes {known}" if known else "leave it out"
                raise RecordingError(f"{path} is {kind}, so {FLAGS[name]} does not apply: {cure}")


#: Nothing said: what most files need.
AS_THE_FILE_SAYS = ReadOptions()


def _columns(text: str) -> str:
    letters = "".join(re.split(r"[,;\s]+", text.strip().lower())).replace("_", IGNORED)
    wrong = sorted(letters.replace(IGNORED, "")) != sorted("txyp")
    if letters and wrong:
        raise ConfigError(
            f"--columns must name t, x, y and p once each, in the order of the file, got {text!r}. "
            "Examples: xypt, t,x,y,p, txyp- (a fifth column that is ignored)"
        )
    return letters


def _time_unit(text: str) -> str:
    unit = text.strip().lower().replace("µ", "u")
    if unit and unit not in TIME_UNITS_US:
        raise ConfigError(f"--time-unit must be {', '.join(TIME_UNITS_US)}, got {text!r}")
    return unit


def _size(value: str | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, str):
        sides = [int(s) for s in re.findall(r"\d{1,9}", value)]
        good = re.fullmatch(r"\s*\d{1,9}\s*[x,]\s*\d{1,9}\s*", value.lower()) is not None
    else:
        sides, good = [int(s) for s in value], len(value) == 2
    if not good or not all(0 < side <= MAX_SIDE for side in sides):
        raise ConfigError(
            f"--size must be WIDTHxHEIGHT with sides of 1 .. {MAX_SIDE}, for example 640x480, "
            f"got {value!r}"
        )
    return sides[0], sides[1]

"""The dynamic parameters as controls of the page: the same table that the nodes declare."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.perception.parameter_changes import changed
from evdistill_core.perception.parameters import PerceptionParameters, declarations

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Windows", ("window_", "stride_", "deadline_", "max_rate_")),
    ("Filters", ("hot_pixels_", "refractory_", "background_", "max_events_")),
    ("Mask", ("unlabelled_", "min_neighbours", "closing_")),
    (
        "Detections",
        ("min_score", "keep_score", "min_area_", "instances", "join_", "centre_", "vote_",
         "top_k", "min_events"),
    ),
    ("Tracks", ("track_",)),
)  # fmt: skip
"""Groups of controls, each with the beginnings of its parameters' names."""
OTHER = "Topics and diagnostics"


class Controls:
    """Reads and changes the dynamic parameters of a running pipeline.

    Args:
        parameters: returns those in force.
        reconfigure: puts new ones in force.
    """

    def __init__(
        self,
        parameters: Callable[[], PerceptionParameters],
        reconfigure: Callable[[PerceptionParameters], None],
    ) -> None:
        self._parameters = parameters
        self._reconfigure = reconfigure
        self._at_start = parameters()
        self._lock = threading.Lock()

    def table(self) -> list[dict[str, object]]:
        """Return every control: name, group, type, value, value at the start, range, unit, text.

        Left out are parameters that are texts or lists: a page has no good control for them.
        """
        rows = []
        now, start = self._parameters(), self._at_start
        for name, declaration in declarations(type(now)).items():
            value = getattr(now, name)
            if not declaration.dynamic or not _has_control(value, declaration.choices):
                continue
            rows.append(
                {
                    "name": name,
                    "group": group_of(name),
                    "type": "choice" if declaration.choices else type(value).__name__,
                    "value": value,
                    "start": getattr(start, name),
                    "low": declaration.low,
                    "high": declaration.high,
                    "unit": declaration.unit,
                    "choices": list(declaration.choices),
                    "text": declaration.text,
                }
            )
        order = [group for group, _ in GROUPS] + [OTHER]
        return sorted(rows, key=lambda row: order.index(str(row["group"])))

    def values(self) -> dict[str, object]:
        """Return the values in force of all controls."""
        return {str(row["name"]): row["value"] for row in self.table()}

    def set(self, name: str, value: object) -> str:
        """Change one parameter from the next packet and window on; return what is now in force.

        Raises:
            ConfigError: no such control, or the value is refused.
        """
        with self._lock:
            known = self.values()
            if name not in known:
                raise ConfigError(f"there is no control {name!r}{did_you_mean(name, known)}")
            now = self._parameters()
            after = changed(now, {name: value})
            self._reconfigure(after)
            unit = declarations(type(now))[name].unit
        return f"{name} is {_shown(getattr(after, name))}{f' {unit}' if unit else ''}"

    def reset(self) -> str:
        """Put the values of the start in force again."""
        with self._lock:
            values = {name: getattr(self._at_start, name) for name in self.values()}
            self._reconfigure(dataclasses.replace(self._parameters(), **values))
        return "all parameters are as at the start"


def group_of(name: str) -> str:
    """Return the group in which a parameter's control stands."""
    return next((group for group, starts in GROUPS if name.startswith(starts)), OTHER)


def _has_control(value: object, choices: tuple[str, ...]) -> bool:
    return isinstance(value, bool | int | float) or bool(choices)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

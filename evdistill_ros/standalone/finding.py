"""One line of what ``evdistill doctor`` has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        level: how bad it is; an ``error`` keeps the node from working.
        topic: what was looked at.
        text: what was found.
        cure: what to change; "" when nothing.
    """

    level: Level
    topic: str
    text: str
    cure: str = ""

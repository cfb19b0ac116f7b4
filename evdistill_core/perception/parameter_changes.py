"""Changes of parameters while a node runs, and names that are none."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.perception.parameter_files import NOT_OF_THE_TASK
from evdistill_core.perception.parameters import (
    Declaration,
    Kind,
    PerceptionParameters,
    choices_text,
    declarations,
    renamed,
)

P = TypeVar("P", bound=PerceptionParameters)


def changed(current: P, changes: Mapping[str, object], *, may_change_all: bool = False) -> P:
    """Return the parameters with some changed while running.

    Args:
        current: in force.
        changes: name to new value; names that are not ours are left out.
        may_change_all: also those that are fixed while a student is loaded.

    Raises:
        ConfigError: a value is refused, or may not change now.
    """
    declared = declarations(type(current))
    ours = {name: plain(value) for name, value in changes.items() if name in declared}
    wanted = from_mapping(type(current), {**to_mapping(current), **ours})
    fixed = [
        name
        for name in ours
        if not declared[name].dynamic and getattr(wanted, name) != getattr(current, name)
    ]
    if fixed and not may_change_all:
        raise ConfigError(
            f"{', '.join(fixed)} cannot change while the node is configured: deactivate it and "
            "clean it up first, or restart it"
        )
    return wanted


def constraints(declaration: Declaration) -> str:
    """Return in words what neither type nor range of a parameter say."""
    said = [f"one of {choices_text(declaration)}"] if declaration.choices else []
    if not declaration.dynamic:
        said.append("changes only while the node is unconfigured")
    return "; ".join(said)


def plain(value: Any) -> Any:
    """Return the arrays of rclpy as tuples, all else as it is."""
    return tuple(value) if isinstance(value, array | list) else value


def unknown_names(names: Iterable[str], kind: Kind) -> list[str]:
    """Return a sentence for each name that no parameter of a node of this kind has."""
    known = declarations(kind)
    return [
        f"there is no parameter {name}, its value is ignored{did_you_mean(name, known)}"
        for name in sorted(names)
        if name not in known
        and name not in renamed(kind)
        and name.split(".")[0] not in NOT_OF_THE_TASK
    ]

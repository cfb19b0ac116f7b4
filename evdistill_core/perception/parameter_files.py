"""Parameters from ROS parameter files and from the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.inference.student import StudentFile
from evdistill_core.perception.parameters import (
    KINDS,
    Kind,
    PerceptionParameters,
    SegmentationParameters,
    declarations,
    renamed,
)

QOS = "qos_overrides"
NOT_OF_THE_TASK = ("use_sim_time", "autostart", QOS, "start_type_description_service")
"""Parameters of every node; a shared file may hold them, as `ros2 param dump` does."""

P = TypeVar("P", bound=PerceptionParameters)


def load_parameters(
    path: Path | None, overrides: Mapping[str, object] | None = None, *, node: str = ""
) -> PerceptionParameters:
    """Read a ROS parameter file for whichever task it is meant, see ``kind_of``.

    Sections are taken as ROS takes them: those of ``/**`` first, then those named for the node,
    with or without namespace; later ones win. Those of ``NOT_OF_THE_TASK`` are left out.

    Args:
        path: the file; ``None`` gives the defaults.
        overrides: values that win over the file's.
        node: name of the node; empty: the task's.

    Raises:
        ConfigError: unreadable, no parameter file, an unknown parameter, or a refused value.
    """
    return load_as(kind_of(path, overrides, node=node), path, overrides, node=node)


def load_as(
    kind: type[P],
    path: Path | None,
    overrides: Mapping[str, object] | None = None,
    *,
    node: str = "",
) -> P:
    """Read a ROS parameter file for one task; see ``load_parameters``."""
    values = {} if path is None else _parameters_of(load_yaml(path), [node or kind.TASK], path)
    values.update(overrides or {})
    values = {k: v for k, v in values.items() if k.split(".")[0] not in NOT_OF_THE_TASK}
    unknown = sorted(set(values) - set(declarations(kind)))
    if unknown:
        where = f" in {path}" if path is not None else ""
        if unknown[0] in renamed(kind):
            raise ConfigError(f"parameter {unknown[0]}{where} is now {renamed(kind)[unknown[0]]}")
        near = did_you_mean(unknown[0], declarations(kind))
        allowed = near or f" (parameters are: {', '.join(declarations(kind))})"
        raise ConfigError(f"unknown parameter {', '.join(unknown)}{where}{allowed}")
    return from_mapping(kind, values)


def kind_of(
    path: Path | None, overrides: Mapping[str, object] | None = None, *, node: str = ""
) -> Kind:
    """Tell for which task parameters are given.

    Parameters that only one task has decide, so that a student of the other one is refused and
    not run with values that were not meant for it. Without any the student decides, and without
    a student that can be opened it is segmentation, of which one is shipped.

    Raises:
        ConfigError: unreadable, or no parameter file.
    """
    values: dict[str, object] = {}
    if path is not None:
        values = _parameters_of(load_yaml(path), [node] if node else list(KINDS), path)
    values.update(overrides or {})
    meant = [kind for kind in KINDS.values() if set(values) & _own_names(kind)]
    if len(meant) == 1:
        return meant[0]
    student = values.get("student")
    if not isinstance(student, str) or not student:
        return SegmentationParameters
    try:
        task = StudentFile.open(Path(student).expanduser()).info.task
    except StudentError:  # whoever runs it will say the same, and may have more to say
        return SegmentationParameters
    return next(kind for kind in KINDS.values() if task == kind.TASK)


def wants_sim_time(path: Path | None, *, node: str) -> bool:
    """Tell whether a ROS parameter file asks for the time of ``/clock``.

    Args:
        path: the file.
        node: name of the node.

    Raises:
        ConfigError: as ``load_parameters``, or ``use_sim_time`` is no truth value.
    """
    found = {} if path is None else _parameters_of(load_yaml(path), [node], path)
    value = found.get("use_sim_time", False)
    if not isinstance(value, bool):
        raise ConfigError(f"use_sim_time must be true or false, got {value!r}")
    return value


def qos_overrides(
    path: Path | None, overrides: Mapping[str, object] | None = None, *, node: str
) -> dict[str, object]:
    """Return what stands below ``qos_overrides``, by name: ``/topic.subscription.depth``.

    Args:
        path: the file.
        overrides: values that win over the file's.
        node: name of the node.

    Raises:
        ConfigError: as ``load_parameters``.
    """
    values = {} if path is None else _parameters_of(load_yaml(path), [node], path)
    values.update(overrides or {})
    flat = dict(_flattened(values))
    return {k.removeprefix(f"{QOS}."): v for k, v in flat.items() if k.startswith(f"{QOS}.")}


def _flattened(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield values with their names joined by points, as ROS does with nested ones."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_assignments(texts: Sequence[str]) -> dict[str, object]:
    """Return parameters given as ``NAME:=VALUE``, the value read as YAML (as ROS does).

    Raises:
        ConfigError: a text has another form.
    """
    values: dict[str, object] = {}
    for text in texts:
        name, separator, value = text.partition(":=")
        if not separator or not name.strip():
            can_tell = "=" in text and not separator
            near = f"; did you mean {text.replace('=', ':=', 1)!r}?" if can_tell else ""
            raise ConfigError(f"a parameter is given as NAME:=VALUE, got {text!r}{near}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {name} is not valid YAML: {value!r}") from error
        if values[name] is None:
            values[name] = ""
    return values


def _own_names(kind: Kind) -> set[str]:
    """Return the parameters that no other task has."""
    others = [set(declarations(k)) for k in KINDS.values() if k is not kind]
    return set(declarations(kind)).difference(*others)


def _parameters_of(
    content: Mapping[str, object], nodes: Collection[str], path: Path
) -> dict[str, object]:
    values: dict[str, object] = {}
    found = False
    for section, body in content.items():
        name = section.rsplit("/", 1)[-1]
        if section == "/**" or name in {*nodes, "*", "**"}:
            if not isinstance(body, Mapping) or not isinstance(
                body.get("ros__parameters"), Mapping | None
            ):
                raise ConfigError(
                    f"section {section} of {path} must hold a mapping ros__parameters"
                )
            values.update(body.get("ros__parameters") or {})
            found = True
    if content and not found:
        given = ", ".join(map(str, content))
        raise ConfigError(
            f"{path} has no parameters for the node {' or '.join(nodes)}: expected a section /** "
            f"or one named for the node with ros__parameters below it, found {given}"
        )
    return values

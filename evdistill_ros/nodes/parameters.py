"""The parameters of the core as rclpy parameters: descriptors, checks, changes while running."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Mapping
from typing import Any, TypeVar

from evdistill_core.foundation.config import from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception.parameters import (
    Declaration,
    Kind,
    PerceptionParameters,
    choices_text,
    declarations,
    defaults,
    renamed,
)

P = TypeVar("P", bound=PerceptionParameters)


def autostart_descriptor() -> Any:
    """Return the descriptor of ``autostart``, which only the rclpy node has."""
    from rcl_interfaces.msg import ParameterDescriptor  # noqa: PLC0415 - ROS only

    return ParameterDescriptor(
        name="autostart",
        description="Configure and activate at the start; false leaves it to a lifecycle manager.",
        read_only=True,
    )


def declare(node: Any, kind: Kind) -> tuple[str, ...]:
    """Declare every parameter of a kind on an rclpy node, with description, range and unit.

    Returns:
        What to say of parameters that were given under a name of before. ROS ignores what nobody
        declares, so these are declared for a moment to see whether they have a value.
    """
    from rcl_interfaces.msg import ParameterDescriptor  # noqa: PLC0415 - ROS only

    found = []
    for name, instead in renamed(kind).items():
        any_type = ParameterDescriptor(name=name, dynamic_typing=True)
        if node.declare_parameter(name, descriptor=any_type).value is not None:
            found.append(f"parameter {name} is now {instead}")
        node.undeclare_parameter(name)
    for name, declaration in declarations(kind).items():
        default = defaults(kind)[name]
        node.declare_parameter(name, default, descriptor(name, declaration, default))
    return tuple(found)


def descriptor(name: str, declaration: Declaration, default: object) -> Any:
    """Return the rcl_interfaces ParameterDescriptor of one parameter."""
    from rcl_interfaces.msg import (  # noqa: PLC0415 - only where ROS is installed
        FloatingPointRange,
        IntegerRange,
        ParameterDescriptor,
    )

    unit = f" [{declaration.unit}]" if declaration.unit else ""
    result = ParameterDescriptor(
        name=name, description=declaration.text + unit, read_only=not declaration.dynamic
    )
    if declaration.choices:
        result.additional_constraints = f"one of {choices_text(declaration)}"
    if declaration.low is None or declaration.high is None:
        return result
    if isinstance(default, list):
        return result  # ROS checks the range of single numbers only; ours is checked by `read`
    if isinstance(default, float):
        result.floating_point_range = [
            FloatingPointRange(from_value=float(declaration.low), to_value=float(declaration.high))
        ]
    else:
        result.integer_range = [
            IntegerRange(from_value=int(declaration.low), to_value=int(declaration.high), step=1)
        ]
    return result


def read(node: Any, kind: type[P]) -> P:
    """Return the parameters of a kind that an rclpy node holds now.

    Raises:
        ConfigError: a value is refused.
    """
    values = {name: _plain(node.get_parameter(name).value) for name in declarations(kind)}
    return from_mapping(kind, values)


def changed(current: P, changes: Mapping[str, object]) -> P:
    """Return the parameters with some changed while running.

    Args:
        current: in force.
        changes: name to new value; names that are not ours are left out.

    Raises:
        ConfigError: a value is refused, or may not change while running.
    """
    declared = declarations(type(current))
    ours = {name: _plain(value) for name, value in changes.items() if name in declared}
    fixed = [
        name
        for name, value in ours.items()
        if not declared[name].dynamic and value != getattr(current, name)
    ]
    if fixed:
        raise ConfigError(f"{', '.join(fixed)} cannot change while the node runs: restart it")
    return from_mapping(type(current), {**to_mapping(current), **ours})


def _plain(value: Any) -> Any:
    """Return the arrays of rclpy as tuples."""
    return tuple(value) if isinstance(value, array | list) else value


def different(a: PerceptionParameters, b: PerceptionParameters) -> tuple[str, ...]:
    """Return the names of the parameters in which two sets differ."""
    return tuple(f.name for f in dataclasses.fields(a) if getattr(a, f.name) != getattr(b, f.name))

"""The parameters of the core as rclpy parameters: checks at the start, descriptors, changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.perception.parameter_changes import constraints, plain, unknown_names
from evdistill_core.perception.parameters import (
    Declaration,
    Kind,
    PerceptionParameters,
    declarations,
    defaults,
    renamed,
)

P = TypeVar("P", bound=PerceptionParameters)


def declare(node: Any, kind: Kind, given: Mapping[str, Any]) -> list[str]:
    """Declare every parameter of a kind on an rclpy node, with description, range and unit.

    Values are checked here and not by rclpy, which ends in a traceback and takes no whole number
    where a fraction may stand.

    Args:
        node: whose parameters they are.
        kind: of its task.
        given: name to the rclpy Parameter given at the start, known to us or not.

    Returns:
        What to warn of: names that are none.

    Raises:
        ConfigError: a value is refused, or has a name of before.
    """
    values = {name: plain(p.value) for name, p in given.items() if p.value is not None}
    for name, instead in renamed(kind).items():
        if name in values:
            raise ConfigError(f"parameter {name} is now {instead}")
    known = declarations(kind)
    checked = from_mapping(kind, {n: v for n, v in values.items() if n in known})
    for name, declaration in known.items():
        value = getattr(checked, name)
        value = list(value) if isinstance(value, tuple) else value
        node.declare_parameter(
            name, value, descriptor(name, declaration, defaults(kind)[name]), ignore_override=True
        )
    _declare_autostart(node, values.get("autostart", True))
    return unknown_names(values, kind)


def _declare_autostart(node: Any, value: object) -> None:
    """Declare the parameter that only the rclpy node has."""
    from rcl_interfaces.msg import ParameterDescriptor  # noqa: PLC0415 - ROS only

    if not isinstance(value, bool):
        raise ConfigError(f"autostart must be true or false, got {value!r}")
    text = "Configure and activate at the start; false leaves it to a lifecycle manager."
    node.declare_parameter(
        "autostart",
        value,
        ParameterDescriptor(name="autostart", description=text, read_only=True),
        ignore_override=True,
    )


def descriptor(name: str, declaration: Declaration, default: object) -> Any:
    """Return the rcl_interfaces ParameterDescriptor of one parameter."""
    from rcl_interfaces.msg import (  # noqa: PLC0415 - only where ROS is installed
        FloatingPointRange,
        IntegerRange,
        ParameterDescriptor,
    )

    unit = f" [{declaration.unit}]" if declaration.unit else ""
    result = ParameterDescriptor(name=name, description=declaration.text + unit)
    result.additional_constraints = constraints(declaration)
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


def with_declared_types(node: Any, changes: Iterable[Any]) -> list[Any]:
    """Return rclpy Parameters in which whole numbers are fractions where such are declared."""
    from rclpy.parameter import Parameter  # noqa: PLC0415 - ROS only

    def typed(change: Any) -> Any:
        if change.type_ != Parameter.Type.INTEGER or not node.has_parameter(change.name):
            return change
        if node.get_parameter(change.name).type_ != Parameter.Type.DOUBLE:
            return change
        return Parameter(change.name, Parameter.Type.DOUBLE, float(change.value))

    return [typed(change) for change in changes]


def read(node: Any, kind: type[P]) -> P:
    """Return the parameters of a kind that an rclpy node holds now.

    Raises:
        ConfigError: a value is refused.
    """
    values = {name: plain(node.get_parameter(name).value) for name in declarations(kind)}
    return from_mapping(kind, values)

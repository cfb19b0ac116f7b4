"""How a recording is to be read: the same five options in every command that reads one."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Literal

import typer

from evdistill_core.cli._options import Topic

#: What ``open_recording`` takes besides the path.
Reading = dict[str, str | None]
#: What a command's ``reading`` is by default: the decorator puts the user's in its place.
AS_TOLD: Reading = {}

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns", metavar="ORDER", help="Order of plain columns: xypt or t,x,y,p; - is ignored."
    ),
]
# The same names as in the core, which would be slow to import for `--help` (a test compares them).
TimeUnit = Annotated[
    Literal["ns", "us", "ms", "s"] | None,
    typer.Option("--time-unit", help="Unit of time of plain columns."),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="WIDTHxHEIGHT", help="Size of the sensor, if the file does not hold it."
    ),
]
Camera = Annotated[
    str | None,
    typer.Option(
        "--camera", metavar="NAME", help="Camera, such as DAVIS346, if the file does not hold it."
    ),
]
OPTIONS: dict[str, object] = {
    "topic": Topic, "columns": Columns, "time_unit": TimeUnit, "size": Size, "camera": Camera,
}  # fmt: skip


def reads_recordings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--topic``, ``--columns``, ``--time-unit``, ``--size`` and ``--camera``.

    Args:
        command: has a parameter ``reading``, which gets their values as a ``Reading``. In the help
            they stand where it stands.
    """

    @functools.wraps(command)
    def wrapped(*arguments: object, **options: object) -> None:
        reading = {name: options.pop(name, None) for name in OPTIONS}
        command(*arguments, **options, reading=reading)

    signature = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name != "reading":
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(name, parameter.kind, default=None, annotation=annotation)
            for name, annotation in OPTIONS.items()
        ]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(command, include_extras=True)
    hints.pop("reading")
    wrapped.__annotations__ = {**hints, **OPTIONS}
    del wrapped.__wrapped__  # its hints would be looked at instead
    return wrapped

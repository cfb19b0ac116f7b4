"""``evdistill doctor``: what keeps a node from working here, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    topic: Annotated[str, typer.Option(help="Event topic to listen to; '' none.")] = (
        "/event_camera/events"
    ),
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="How long to wait for it, and to listen.")
    ] = 3.0,
    student: Annotated[Path | None, typer.Option(help="Student file.")] = None,
    params_file: Annotated[
        Path | None, typer.Option("--params-file", help="ROS parameter file.")
    ] = None,
    domain: Annotated[
        int | None, typer.Option(min=0, max=232, help="DDS domain; default ROS_DOMAIN_ID.")
    ] = None,
) -> None:
    """Check RMW, domain, discovery, buffers, student, and a live event topic.

    Ends with 0 when nothing keeps the node from working (there may be warnings), else with 1.
    """
    from evdistill_core.perception.parameter_files import load_parameters
    from evdistill_ros.standalone.doctor import (
        Finding,
        check_buffers,
        check_environment,
        check_student,
        check_topic,
    )

    overrides = {"student": str(student)} if student is not None else {}
    levels: list[str] = []

    def say(found: Finding) -> None:
        levels.append(found.level)
        typer.echo(f"{found.level:5}  {found.topic}: {found.text}")
        if found.cure:
            typer.echo(f"       -> {found.cure}")

    for found in check_environment():
        say(found)
    say(check_buffers())
    say(check_student(load_parameters(params_file, overrides)))
    if topic and not ("error" in levels and levels[0] == "error"):
        for found in check_topic(topic, seconds=seconds, domain=domain):
            say(found)
    errors, warnings = levels.count("error"), levels.count("warn")
    typer.echo(f"{errors} errors, {warnings} warnings")
    if errors:
        raise typer.Exit(1)

"""``evdistill doctor``: what keeps a node from working here, and what to change."""

from __future__ import annotations

from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Domain, Json, ParamsFile, Student

PLACE = Place("Live", 4)
EXAMPLES = (
    "evdistill doctor",
    "evdistill doctor --events /prophesee/events --seconds 10",
    "evdistill doctor --events '' --json",
)


def command(
    events: Annotated[
        str, typer.Option(metavar="TOPIC", help="Event topic to listen to; '' none.")
    ] = "/event_camera/events",
    seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.1, max=600, help="How long to wait for it, and to listen."
        ),
    ] = 3.0,
    student: Student = None,
    params_file: ParamsFile = None,
    domain: Domain = None,
    as_json: Json = False,
) -> None:
    """Check what keeps a node from working here.

    RMW, domain, discovery, buffers of each DDS, Python, NumPy, the modules of ROS, student, and a
    live event topic are checked.

    Ends with 0 when nothing keeps the node from working (there may be warnings), else with 1.
    """
    import dataclasses

    from evdistill_core.cli._outputs import print_json
    from evdistill_core.perception.parameter_files import load_parameters
    from evdistill_ros.standalone.doctor import (
        check_buffers,
        check_environment,
        check_student,
        check_topic,
    )
    from evdistill_ros.standalone.doctor_python import check_python
    from evdistill_ros.standalone.finding import Finding

    overrides = {"student": str(student)} if student is not None else {}
    found: list[Finding] = []

    def say(finding: Finding) -> None:
        found.append(finding)
        if as_json:
            return
        typer.echo(f"{finding.level:5}  {finding.topic}: {finding.text}")
        if finding.cure:
            typer.echo(f"       -> {finding.cure}")

    for findings in (check_environment(), check_buffers(), check_python()):
        for finding in findings:
            say(finding)
    say(check_student(load_parameters(params_file, overrides)))
    # Without a working DDS, the first finding, there is nothing to listen with.
    if events and found[0].level != "error":
        for finding in check_topic(events, seconds=seconds, domain=domain):
            say(finding)
    levels = [finding.level for finding in found]
    errors, warnings = levels.count("error"), levels.count("warn")
    if as_json:
        rows = [dataclasses.asdict(finding) for finding in found]
        print_json({"errors": errors, "warnings": warnings, "findings": rows})
    else:
        typer.echo(f"{errors} errors, {warnings} warnings")
    if errors:
        raise typer.Exit(1)

"""``evdistill live``: the node of a student without a ROS install."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    Domain,
    FoxgloveAt,
    Overwrite,
    Parameters,
    ParamsFile,
    RerunTo,
    Student,
    ViewAt,
)

PLACE = Place("Live", 1)
EXAMPLES = (
    "evdistill live --params-file config/seg.yaml",
    "evdistill live --view",
    "evdistill live --rerun street.rrd",
    "evdistill live --foxglove",
    "evdistill live --events /prophesee/events -p min_score:=0.6",
    "evdistill live --camera inivation --student my.evstudent",
)


def command(
    params_file: ParamsFile = None,
    events: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="Event topic; default: /event_camera/events."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="CAMERA",
            help="Read a camera instead of a topic: inivation, inivation:SERIAL, "
            "tcp://HOST:PORT[,PORT] or unix:///PATH[,/PATH].",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Images of the same camera; default: image_raw beside the events.",
        ),
    ] = None,
    student: Student = None,
    parameter: Parameters = None,
    remap: Annotated[
        list[str] | None,
        typer.Option(
            "--remap",
            "-r",
            metavar="FROM:=TO",
            help="Another name for a topic; also __ns:=/NAMESPACE, __node:=NAME.",
        ),
    ] = None,
    domain: Domain = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Give up when no event topic or camera comes for this long.",
        ),
    ] = None,
    result_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one JSON line a window into this file."),
    ] = None,
    view: ViewAt = None,
    rerun: RerunTo = None,
    foxglove: FoxgloveAt = None,
    overwrite: Overwrite = False,
    ros_args: Annotated[
        bool, typer.Option("--ros-args", hidden=True, help="Accepted, as ROS nodes do.")
    ] = False,
) -> None:
    """Put a live topic or a camera through a student.

    Results are published over DDS.

    Masks, detections and overlays of a student of segmentation, classifications and overlays of
    one of recognition. With --camera the node is the camera's driver too and publishes its events.
    The topics and the parameter file are those of the rclpy nodes; nothing of
    ROS need be installed. Ends with 0 on SIGTERM and with 130 on Ctrl-C.
    """
    from evdistill_core.cameras.address import CameraAddress
    from evdistill_core.foundation.outputs import check_file
    from evdistill_core.perception.parameter_files import (
        load_parameters,
        parse_assignments,
        qos_overrides,
        wants_sim_time,
    )
    from evdistill_core.viewing.live.address import ViewAddress
    from evdistill_core.viewing.live.foxglove_sink import parse_foxglove
    from evdistill_core.viewing.live.rerun_sink import RerunTarget
    from evdistill_ros.qos import QosOverrides
    from evdistill_ros.standalone.console import Feeds, run_live
    from evdistill_ros.standalone.live import GraphOptions, split_rules

    if result_log is not None:
        check_file(result_log, overwrite=overwrite)
    feeds = Feeds(
        None if rerun is None else RerunTarget.parse(rerun),
        None if foxglove is None else parse_foxglove(foxglove),
    )
    if feeds.rerun is not None and feeds.rerun.path is not None:
        check_file(feeds.rerun.path, overwrite=overwrite)
    overrides = parse_assignments(parameter or [])
    if student is not None:
        overrides["student"] = str(student)
    name, namespace, remaps = split_rules(remap or [])
    sim_time = overrides.pop("use_sim_time", None)
    if events is not None:
        remaps["~/events"] = events
    if image is not None:
        remaps["~/image"] = image
    parameters = load_parameters(params_file, overrides, node=name)
    name = name or parameters.TASK
    use_sim_time = wants_sim_time(params_file, node=name) if sim_time is None else bool(sim_time)
    options = GraphOptions(
        name=name,
        namespace=namespace,
        remaps=remaps,
        domain=domain,
        timeout_s=timeout,
        use_sim_time=use_sim_time,
        qos_overrides=QosOverrides(qos_overrides(params_file, overrides, node=name)),
        camera=None if camera is None else CameraAddress.parse(camera),
    )
    view_at = None if view is None else ViewAddress.parse(view)
    code = run_live(parameters, options, result_log=result_log, view_at=view_at, feeds=feeds)
    if code:
        raise typer.Exit(code)

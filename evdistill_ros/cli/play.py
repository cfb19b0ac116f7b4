"""``evdistill play``: a recording as a live camera in the ROS 2 graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    Overwrite,
    RecordingArgument,
    Start,
    ViewAt,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

if TYPE_CHECKING:
    from evdistill_core.recordings.base import Recording, RecordingInfo
    from evdistill_ros.standalone.player import PlayConfig, Player, PlayResult

PLACE = Place("Live", 3)
EXAMPLES = (
    "evdistill play street.mcap",
    "evdistill play street.raw --events /prophesee/events --rate 0.5 --loop",
    "evdistill play street.mcap --loop --view",
    "evdistill play two_cameras.bag --topic /left/events --wait-for-subscriber",
)


@reads_recordings
def command(
    source: RecordingArgument,
    rate: Annotated[float, typer.Option(metavar="X", help="Speed; 2 is twice real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start over until stopped.")] = False,
    loops: Annotated[
        int, typer.Option(metavar="N", help="How often to play it; 0 is for ever.")
    ] = 1,
    start: Start = 0.0,
    end: End = None,
    reading: Reading = AS_TOLD,
    events: Annotated[
        str, typer.Option(metavar="TOPIC", help="Where events are published.")
    ] = "/event_camera/events",
    image: Annotated[
        str,
        typer.Option(
            metavar="TOPIC",
            help="Where images are published, if there are any; '' leaves them out.",
        ),
    ] = "/event_camera/image_raw",
    packet_ms: Annotated[
        float,
        typer.Option(metavar="MS", help="Duration of a message made of a file that is no bag."),
    ] = 10.0,
    wait_for_subscriber: Annotated[
        bool, typer.Option("--wait-for-subscriber", help="Begin when somebody receives.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Give up waiting for a subscriber after this long."),
    ] = None,
    keep_stamps: Annotated[
        bool,
        typer.Option("--keep-stamps", help="Leave header stamps and seq as recorded."),
    ] = False,
    send_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was sent when, one JSON line a message."),
    ] = None,
    view: ViewAt = None,
    overwrite: Overwrite = False,
    node_name: Annotated[
        str, typer.Option(metavar="NAME", help="Name in `ros2 node list`.")
    ] = "event_player",
) -> None:
    """Play a recording into the ROS 2 graph in real time.

    It looks like a camera driver.

    No ROS installation is needed. Events go out best effort with a depth of 1000, images
    reliably. Header stamps become the time of sending and seq counts on over loops, like a live
    driver's. ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE are followed.
    """
    from evdistill_core.foundation.outputs import check_file
    from evdistill_core.foundation.signals import StopSignals
    from evdistill_ros.dds import DdsNode
    from evdistill_ros.standalone.player import PlayConfig, Player
    from evdistill_ros.standalone.topic_view import played_view

    start_us, end_us = span_us(start, end)
    if send_log is not None:
        check_file(send_log, overwrite=overwrite, sources=(source,))
    config = PlayConfig(
        rate=rate,
        loops=0 if loop else loops,
        start_us=start_us,
        end_us=end_us,
        events_topic=events,
        image_topic=image,
        packet_us=round(packet_ms * 1e3),
        keep_stamps=keep_stamps,
    )
    with (
        _open(source, reading) as recording,
        StopSignals() as signals,
        _log_file(send_log) as log,
        DdsNode(node_name, on_warning=_warn) as node,
        contextlib.ExitStack() as stack,
    ):
        page = stack.enter_context(played_view(view, source)) if view is not None else None
        player = Player(node, recording, config, log, on_sent=None if page is None else page.push)
        signals.call(player.stop)
        typer.echo(f"{source.name} -> {player.events.topic} ({player.events.type_name})", err=True)
        if wait_for_subscriber:
            _wait(player, timeout)
        result = _play(player, recording.info, config)
        _report(result, recording.info.warnings)
    if signals.received:
        raise typer.Exit(128 + signals.received[0])


def _open(source: Path, reading: Reading) -> Recording:
    """Open the recording; ``--topic`` used to say where events go, so that is told too."""
    from evdistill_core.foundation.errors import RecordingError
    from evdistill_core.recordings.opening import open_recording

    try:
        return open_recording(source, **reading)
    except RecordingError as error:
        if reading["topic"] is None:
            raise
        raise RecordingError(
            f"{error} (--topic is read; --events says where to publish)"
        ) from error


def _wait(player: Player, timeout_s: float | None) -> None:
    from evdistill_ros.dds import DdsError

    typer.echo(f"waiting for a subscriber of {player.events.topic} ...", err=True)
    if not player.wait_for_subscriber(timeout_s) and timeout_s is not None:
        raise DdsError(
            f"nobody has subscribed to {player.events.topic} within {timeout_s:g} s: check the "
            "topic name, ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE of the subscriber"
        )


def _play(player: Player, info: RecordingInfo, config: PlayConfig) -> PlayResult:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"playing {info.path.name} at {config.rate:g}x", text="")

        def show(result: PlayResult) -> None:
            subscribers = player.events.matched_count
            bar.update(task, text=f"{result.packets:,} packets to {subscribers} subscribers")

        return player.play(show if console.is_terminal else None)


def _report(result: PlayResult, warnings: tuple[str, ...]) -> None:
    rate = result.sent_bytes / max(result.elapsed_s, 1e-9) / 1e6
    typer.echo(
        f"{'played' if result.finished else 'stopped after'} {result.packets:,} packets and "
        f"{result.images:,} images in {result.elapsed_s:.2f} s, {rate:.1f} MB/s; "
        f"{result.late:,} late (worst {result.worst_late_ms:.1f} ms)"
    )
    if result.dropped:
        typer.echo(f"warning: {result.dropped:,} messages dropped: a subscriber is slow", err=True)
    if result.damaged:
        typer.echo(f"warning: {result.damaged:,} damaged messages left out", err=True)
    for text in [] if result.account is None else result.account.lines():
        typer.echo(f"note: {text}", err=True)
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)


def _warn(text: str) -> None:
    typer.echo(f"warning: {text}", err=True)


@contextlib.contextmanager
def _log_file(path: Path | None) -> Iterator[TextIO | None]:
    """Open the send log, which appears only when playing has ended (Ctrl-C included)."""
    from evdistill_core.foundation.files import atomic_path

    if path is None:
        yield None
        return
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file

"""``evdistill record``: a camera into a recording, without ROS."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    EventEncoding,
    EventsTopic,
    FrameId,
    FrameStep,
    FramesTopic,
    OutFile,
    Overwrite,
    PacketMs,
)

if TYPE_CHECKING:
    from evdistill_core.cameras.record import RecordStatus

PLACE = Place("Live", 2)
EXAMPLES = (
    "evdistill record --camera inivation street.mcap",
    "evdistill record --camera tcp://192.168.1.7:7777,7778 street.aedat4 --duration 60",
)

SILENT_S = 10.0


def command(
    camera: Annotated[
        str,
        typer.Option(
            metavar="CAMERA",
            help="inivation, inivation:SERIAL, tcp://HOST:PORT[,PORT] or unix:///PATH[,/PATH].",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="TARGET",
            help="File to make: .mcap (a rosbag2), .aedat4, .h5, .npz, .raw, .txt or .csv; "
            "default: events_TIME.mcap.",
        ),
    ] = None,
    out: OutFile = None,
    duration: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End this long after the first event."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Give up when the camera does not open, or no event comes."
        ),
    ] = 10.0,
    encoding: EventEncoding = "libcaer_cmp",
    packet_ms: PacketMs = 10.0,
    frame_step: FrameStep = 1,
    events_topic: EventsTopic = "/event_camera/events",
    frames_topic: FramesTopic = "/event_camera/image_raw",
    frame_id: FrameId = "event_camera",
    keep_free: Annotated[
        float, typer.Option(metavar="MB", help="End when the disk has less space left.")
    ] = 256.0,
    overwrite: Overwrite = False,
) -> None:
    """Record a camera until Ctrl-C or --duration.

    Needs no ROS; iniVation cameras and network streams need `pip install dv-processing`. The file
    appears when the recording ends, also when the camera is unplugged or the disk gets full (then
    with an exit code that is not 0). Ctrl-C is the normal end: exit code 0.
    """
    from evdistill_core.cameras.address import CameraAddress
    from evdistill_core.cameras.camera import Camera
    from evdistill_core.cameras.record import RecordConfig, Recorder, check_output
    from evdistill_core.cli._outputs import target_of
    from evdistill_core.foundation.signals import StopSignals
    from evdistill_core.recordings.convert import ConvertConfig

    address = CameraAddress.parse(camera)
    output = ConvertConfig(
        encoding=encoding,
        packet_us=round(packet_ms * 1e3),
        frame_step=frame_step,
        events_topic=events_topic,
        frames_topic=frames_topic,
        frame_id=frame_id,
    )
    config = RecordConfig(
        output=output,
        duration_s=duration,
        timeout_s=timeout,
        keep_free_bytes=round(keep_free * 1e6),
    )
    target = _default_name() if target is None and out is None else target_of(target, out, Path())
    check_output(target, overwrite=overwrite)
    with Camera(address, open_timeout_s=timeout) as source, _progress(target) as show:
        size = f"{source.info.width}x{source.info.height}"
        typer.echo(f"{source.info.name} ({size}) -> {target}, Ctrl-C ends it", err=True)
        recorder = Recorder(source, target, config, on_status=show)
        with StopSignals() as signals:
            signals.call(recorder.stop)
            status = recorder.run()
    _report(target, status)


def _default_name() -> Path:
    import datetime

    return Path(f"events_{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}.mcap")


@contextlib.contextmanager
def _progress(target: Path) -> Iterator[Callable[[RecordStatus], None]]:
    """Show a line of rates on a terminal; warn of silence and losses everywhere."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    line = _Line()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(target.name)

        def show(status: RecordStatus) -> None:
            for text in line.news(status):
                console.print(text, highlight=False, soft_wrap=True)
            bar.update(task, description=line.text(status))

        yield show


class _Line:
    """What is said while recording."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._before = (0.0, 0)
        self._is_silent = False
        self._has_lost = False

    def text(self, status: RecordStatus) -> str:
        """Return elapsed time, rate, totals and losses on one line."""
        at_s, events = self._before
        step_s = status.elapsed_s - at_s
        if step_s >= 0.5:
            self._rate = (status.result.events - events) / step_s
            self._before = (status.elapsed_s, status.result.events)
        lost = status.counters.get("lost_events", 0)
        pictures = f"{status.result.frames:,} images, " if status.result.frames else ""
        return (
            f"{status.elapsed_s:.0f} s  {self._rate / 1e6:.2f} Mev/s  "
            f"{status.result.events / 1e6:.1f} Mev, {pictures}{status.written_bytes / 1e6:.1f} MB, "
            f"{lost:,} events lost"
        )

    def news(self, status: RecordStatus) -> list[str]:
        """Return warnings that were not given yet."""
        found = []
        if status.silent_s >= SILENT_S and not self._is_silent:
            found.append(f"warning: nothing has come for {SILENT_S:g} s; still recording")
        self._is_silent = status.silent_s >= SILENT_S
        if status.counters.get("gaps", 0) and not self._has_lost:
            self._has_lost = True
            found.append("warning: writing does not keep up, events are lost (counted)")
        return found


def _report(target: Path, status: RecordStatus) -> None:
    from evdistill_core.cli._converted import warn_of_losses, written_line
    from evdistill_core.events.account import account_of_camera

    typer.echo(written_line(target, status.result, f"{status.elapsed_s:.1f} s"))
    counters = status.counters
    for text in account_of_camera(counters, status.result.events).lines():
        typer.echo(f"note: {text}", err=True)
    for name, what in (
        ("lost_frames", "images lost: writing did not keep up"),
        ("damaged_frames", "images left out: damaged"),
    ):
        if counters.get(name, 0):
            typer.echo(f"warning: {counters[name]:,} {what}", err=True)
    warn_of_losses(status.result)

"""``evdistill record``: a camera into a recording, without ROS."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evdistill_core.cameras.record import RecordStatus

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
            metavar="[OUT]",
            help="File to make: .mcap (a rosbag2), .aedat4, .h5, .npz; default: events_TIME.mcap.",
        ),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="End so many seconds after the first event.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Give up when the camera does not open, or no event comes, s.")
    ] = 10.0,
    encoding: Annotated[
        str, typer.Option(help="Of events in a bag: libcaer_cmp, or evt3 (holds trigger edges).")
    ] = "libcaer_cmp",
    packet_ms: Annotated[float, typer.Option(help="Duration of one event message.")] = 10.0,
    frame_step: Annotated[int, typer.Option(help="Keep every n-th picture; 0 keeps none.")] = 1,
    events_topic: Annotated[str, typer.Option()] = "/event_camera/events",
    frames_topic: Annotated[str, typer.Option()] = "/event_camera/image_raw",
    frame_id: Annotated[str, typer.Option()] = "event_camera",
    keep_free: Annotated[float, typer.Option(help="End when the disk has fewer MB left.")] = 256.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Record a camera until Ctrl-C (or --duration) into any format that `convert` writes.

    Needs no ROS; iniVation cameras and network streams need `pip install dv-processing`. The file
    appears when the recording ends, also when the camera is unplugged or the disk gets full (then
    with an exit code that is not 0). Ctrl-C is the normal end: exit code 0.
    """
    from evdistill_core.cameras.address import CameraAddress
    from evdistill_core.cameras.camera import Camera
    from evdistill_core.cameras.record import RecordConfig, Recorder, check_output
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
    target = target or _default_name()
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
        pictures = f"{status.result.frames:,} pictures, " if status.result.frames else ""
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
    result = status.result
    packets = f" in {result.packets:,} packets" if result.packets else ""
    typer.echo(
        f"{target}: {result.events:,} events{packets}, {result.triggers:,} triggers, "
        f"{result.frames:,} pictures, {status.elapsed_s:.1f} s, "
        f"{target.stat().st_size / 1e6:.2f} MB"
    )
    counters = status.counters
    for name, what in (
        ("lost_events", "events lost: writing did not keep up"),
        ("lost_frames", "pictures lost: writing did not keep up"),
        ("out_of_frame", "events left out: outside the frame"),
        ("bad_time", "events left out: impossible times"),
        ("damaged_frames", "pictures left out: damaged"),
        ("time_jumps", "jumps of the sensor's time (a reset, or a gap)"),
    ):
        if counters.get(name, 0):
            typer.echo(f"warning: {counters[name]:,} {what}", err=True)
    for count, what in (
        (
            result.dropped_triggers,
            "trigger edges left out: .npz and .h5 keep them all, .aedat4 those of input 0, "
            "a bag in evt3 those of inputs 0 to 15",
        ),
        (result.dropped_frames, "pictures left out"),
    ):
        if count:
            typer.echo(f"note: {count:,} {what}", err=True)

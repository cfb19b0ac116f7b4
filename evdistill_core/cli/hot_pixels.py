"""``evdistill hot-pixels``: find the hot pixels of a camera in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    End,
    Json,
    OutFile,
    Overwrite,
    RecordingArgument,
    Start,
    span_us,
)
from evdistill_core.cli._reading import AS_TOLD, Reading, reads_recordings

if TYPE_CHECKING:
    from evdistill_core.events.filters import HotPixelLearner

PLACE = Place("Recordings", 5)
EXAMPLES = (
    "evdistill hot-pixels lens_covered.mcap hot.txt",
    "evdistill run street.mcap --out out/street -p hot_pixels_file:=hot.txt",
)

DEFAULT_S = 10.0


@reads_recordings
def command(
    recording: RecordingArgument,
    target: Annotated[
        Path | None, typer.Argument(metavar="TARGET", help="List to write, for hot_pixels_file.")
    ] = None,
    out: OutFile = None,
    reading: Reading = AS_TOLD,
    start: Start = 0.0,
    end: End = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="Sensor time to look at; default: 10 s, or up to --end.",
        ),
    ] = None,
    min_hz: Annotated[
        float, typer.Option(metavar="HZ", min=0, help="Slower pixels are not hot.")
    ] = 50.0,
    ratio: Annotated[
        float,
        typer.Option(
            metavar="X", min=1, help="Hot pixels fire this many times as often as those near."
        ),
    ] = 10.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find pixels that fire on their own and list them.

    A recording of a still scene with the lens covered is best. The list goes into the parameter
    hot_pixels_file of run, live and the ROS node.
    """
    from evdistill_core.cli._outputs import print_json, target_of
    from evdistill_core.events.filters import HotPixels
    from evdistill_core.foundation.errors import RecordingError
    from evdistill_core.foundation.outputs import check_file

    file = target_of(target, out, recording)
    span_us(start, end)  # refuses an impossible one
    check_file(file, overwrite=overwrite, sources=(recording,))
    if seconds is None and end is None:
        seconds = DEFAULT_S
    learner = _learn(recording, reading, (start, end), seconds)
    if learner is None or not learner.span_us:
        raise RecordingError(f"{recording} holds no events that span any time")
    found = HotPixels.from_counts(learner.counts, learner.span_us, min_hz=min_hz, ratio=ratio)
    found.save(file)
    share = float(learner.counts[found.mask].sum() / max(1, learner.counts.sum()))
    if as_json:
        print_json(
            {
                "recording": str(recording),
                "out": str(file),
                "hot_pixels": found.count,
                "pixels": int(found.mask.size),
                "span_us": int(learner.span_us),
                "share_of_events": round(share, 6),
            }
        )
        return
    typer.echo(
        f"{found.count} hot pixels of {found.mask.size} in {learner.span_us / 1e6:.1f} s, "
        f"{share:.1%} of the events: {file}"
    )


def _learn(
    path: Path, reading: Reading, span_s: tuple[float, float | None], seconds: float | None
) -> HotPixelLearner | None:
    """Count the events of every pixel in a span; None without events."""
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.events.filters import HotPixelLearner
    from evdistill_core.foundation.errors import RecordingError
    from evdistill_core.recordings.opening import open_recording

    learner: HotPixelLearner | None = None
    events = 0
    with open_recording(path, **reading) as recording, reading_progress("reading") as report:
        for batch in recording.batches(*recording.span_us(*span_s)):
            if learner is None:
                learner = HotPixelLearner(batch.events.width, batch.events.height)
            if learner.counts.shape != (batch.events.height, batch.events.width):
                raise RecordingError(f"{path}: the frame size changes; cut the recording there")
            if batch.discontinuity:
                learner.interrupt()
            learner.add(batch.events)
            events += len(batch.events)
            report(recording.fraction_read, events)
            if seconds is not None and learner.span_us >= seconds * 1e6:
                break
    return learner

"""``evdistill hot-pixels``: find the hot pixels of a camera in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="Recording; best of a still scene, lens covered.")],
    out: Annotated[Path, typer.Argument(help="List to write, for hot_pixels_file.")],
    topic: Annotated[str | None, typer.Option(help="Event topic, if there are several.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Sensor time to look at.")] = 10.0,
    min_hz: Annotated[float, typer.Option(min=0, help="Slower pixels are not hot.")] = 50.0,
    ratio: Annotated[
        float, typer.Option(min=1, help="Hot ones are so many times as fast as those around.")
    ] = 10.0,
) -> None:
    """Find pixels that fire on their own and write a list of them.

    The list goes into the parameter hot_pixels_file of run, live and the ROS node.
    """
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.events.filters import HotPixelLearner, HotPixels
    from evdistill_core.foundation.errors import RecordingError
    from evdistill_core.recordings.opening import open_recording

    learner: HotPixelLearner | None = None
    events = 0
    with open_recording(file, topic=topic) as recording, reading_progress("reading") as report:
        for batch in recording.batches():
            if learner is None:
                learner = HotPixelLearner(batch.events.width, batch.events.height)
            if learner.counts.shape != (batch.events.height, batch.events.width):
                raise RecordingError(f"{file}: the frame size changes; cut the recording there")
            if batch.discontinuity:
                learner.interrupt()
            learner.add(batch.events)
            events += len(batch.events)
            report(recording.fraction_read, events)
            if learner.span_us >= seconds * 1e6:
                break
    if learner is None or not learner.span_us:
        raise RecordingError(f"{file} holds no events that span any time")
    found = HotPixels.from_counts(learner.counts, learner.span_us, min_hz=min_hz, ratio=ratio)
    found.save(out)
    share = learner.counts[found.mask].sum() / max(1, learner.counts.sum())
    typer.echo(
        f"{found.count} hot pixels of {found.mask.size} in {learner.span_us / 1e6:.1f} s, "
        f"{share:.1%} of the events: {out}"
    )

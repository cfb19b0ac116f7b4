"""What `convert`, `cut` and `record` say of a recording that they wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from evdistill_core.cli._reading import Reading
    from evdistill_core.recordings.base import RecordingInfo
    from evdistill_core.recordings.convert import ConvertConfig, ConvertResult


def convert_file(
    source: Path,
    target: Path,
    reading: Reading,
    config_of: Callable[[RecordingInfo], ConvertConfig],
    *,
    as_json: bool = False,
) -> dict[str, object]:
    """Convert one recording, with a progress line; say what was written, and what was not.

    Args:
        source: the recording.
        target: the file to make.
        reading: how to read the source.
        config_of: gives the configuration for a source.
        as_json: print nothing on stdout.

    Returns:
        What ``--json`` prints of it.
    """
    from evdistill_core.cli._progress import reading_progress
    from evdistill_core.events.account import account_of_reading
    from evdistill_core.recordings.convert import convert
    from evdistill_core.recordings.opening import open_recording

    with (
        open_recording(source, **reading) as recording,
        reading_progress(f"{source.name} -> {target.name}") as report,
    ):
        result = convert(
            recording,
            target,
            config_of(recording.info),
            lambda events: report(recording.fraction_read, events),
        )
        warnings = recording.info.warnings
        account = account_of_reading(recording.counters, result.events)
    if not as_json:
        typer.echo(written_line(target, result))
    for text in account.lines():
        typer.echo(f"note: {text}", err=True)
    warn_of_losses(result, warnings)
    return {
        "source": str(source),
        "out": str(target),
        "bytes": target.stat().st_size,
        **dataclasses.asdict(result),
        "event_account": account.to_dict(),
        "warnings": list(warnings),
    }


def written_line(target: Path, result: ConvertResult, *more: str) -> str:
    """Return the line that tells what a new recording holds.

    Args:
        target: the file.
        result: what was written.
        more: further facts.
    """
    packets = f" in {result.packets:,} packets" if result.packets else ""
    others = [f"{result.others:,} other messages"] if result.others else []
    facts = [
        f"{result.events:,} events{packets}",
        f"{result.triggers:,} triggers",
        f"{result.frames:,} images",
        *others,
        *more,
        f"{target.stat().st_size / 1e6:.2f} MB",
    ]
    return f"{target}: {', '.join(facts)}"


def warn_of_losses(result: ConvertResult, warnings: Sequence[str] = ()) -> None:
    """Tell on stderr what the new recording does not hold, and what was odd in the source."""
    for count, what in (
        (
            result.dropped_triggers,
            "trigger edges left out: .npz and .h5 keep them all, .aedat4 those of input 0, "
            ".raw and a bag in evt3 those of inputs 0 to 15",
        ),
        (result.dropped_frames, "images left out"),
    ):
        if count:
            typer.echo(f"note: {count:,} {what}", err=True)
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)

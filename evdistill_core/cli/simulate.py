"""``evdistill simulate``: labelled images or a film -> event windows with labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

PREVIEWED = 8


def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of labelled images (images/<split> and labels/<split> as CamVid, or "
            "images and masks), or a film."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make: index.json and npz shards.")],
    config: Annotated[Path | None, typer.Option(help="YAML: sensor, scene, size, classes.")] = None,
    split: Annotated[str, typer.Option(help="Which part of the images.")] = "train",
    layout: Annotated[
        str, typer.Option(help="How the images lie (docs/training.md); empty: found out.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Windows; default 256, or the whole film."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Threads.")] = 2,
    preview: Annotated[
        Path | None, typer.Option(help="Picture of the first windows to make as well (.png).")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another set in OUT.")] = False,
) -> None:
    """Simulate what an event camera sees: events, and labels and picture at each window's end.

    Labelled images are seen by a moving camera, or their vehicles and people move past a fixed
    one, or both. A film becomes consecutive windows without labels. An interrupted run goes on
    when the command is given again.
    """
    from evdistill_core.data.labelled_images import find_images
    from evdistill_core.data.simulated_sets import (
        SimulateConfig,
        simulate_film,
        simulate_images,
    )
    from evdistill_core.foundation.config import from_mapping, load_yaml
    from evdistill_core.foundation.errors import DataError

    settings = from_mapping(SimulateConfig, load_yaml(config) if config else {})
    if not source.exists():
        raise DataError(f"{source} does not exist")
    if preview is not None and preview.suffix.lower() not in (".png", ".jpg"):
        raise DataError(f"--preview must end in .png or .jpg, got {preview.name!r}")
    try:
        if source.is_dir():
            images = find_images(
                source, split, names=settings.names, class_map=settings.class_map, layout=layout
            )
            total = count or 256
            with _progress(total) as report:
                simulate_images(
                    images, out, settings, seed=seed, count=total, workers=workers,
                    overwrite=overwrite, on_window=report,
                )  # fmt: skip
        else:
            with _progress(count) as report:
                simulate_film(
                    source, out, settings, seed=seed, count=count, overwrite=overwrite,
                    on_window=report,
                )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"stopped: give the same command again to go on with {out}", err=True)
        raise
    _finish(out, preview)


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar with rate and time left on stderr while the block runs; silent in a pipe."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    first: list[int] = []
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("simulating", total=total, rate="")

        def report(done: int) -> None:
            first.append(done)  # windows of an earlier run do not count as speed
            elapsed_s = progress.tasks[0].elapsed or 0.0
            rate = f"{(done - first[0]) / elapsed_s:.1f} windows/s" if elapsed_s > 0.5 else ""
            progress.update(task, completed=done, rate=rate)

        yield report


def _finish(out: Path, preview: Path | None) -> None:
    """Say what was made, and draw the first windows."""
    from evdistill_core.simulation.dataset import SimulatedSet, read_index

    made = SimulatedSet(out)
    events = sum(int(s["events"]) for s in (read_index(out) or {})["shards"])
    what = "labelled windows" if made.is_labelled else "windows without labels"
    typer.echo(f"{out}: {len(made):,} {what} of {made.width}x{made.height}, {events:,} events")
    if preview is not None:
        import cv2

        from evdistill_core.foundation.files import atomic_path
        from evdistill_core.simulation.preview import preview as draw

        shown = [made[i] for i in range(min(PREVIEWED, len(made)))]
        with atomic_path(preview) as path:
            cv2.imwrite(str(path), draw(shown, made.classes if made.is_labelled else None))
        typer.echo(f"{preview}: the first {len(shown)} windows from top to bottom")

"""``evdistill simulate``: labelled images or a video -> event windows with labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import (
    Classes,
    Layout,
    OutFolderOption,
    Overwrite,
    Resume,
    WriteClasses,
)

if TYPE_CHECKING:
    from evdistill_core.data.labelled_images import ImagesConfig
    from evdistill_core.data.simulated_sets import SimulateConfig

PLACE = Place("Training", 1)
EXAMPLES = (
    "evdistill simulate data/camvid out/simulated --count 64 --preview out/simulated.png",
    "evdistill simulate data/camvid out/films --seconds 3 --count 4",
    "evdistill simulate drive.mp4 out/drive --config simulate.yaml",
)

PREVIEWED = 8


def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of labelled images (images/<split> and labels/<split> as CamVid, or "
            "images and masks, or YOLO's polygons), or a video.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Folder to make: index.json and npz shards."),
    ] = None,
    out: OutFolderOption = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: sensor, scene, size, classes.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Which part of the images.")] = "train",
    classes: Classes = None,
    write_classes: WriteClasses = None,
    layout: Layout = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The same seed gives the same bytes.")
    ] = 0,
    count: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Windows; default: 256, or the whole video. Recordings: 1."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0.1,
            max=600,
            help="Make recordings of this length, each of one scene, with masks, instances and "
            "boxes with ids.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=256, help="Threads.")] = 2,
    preview: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Image of the first windows to make as well (.png)."),
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Simulate events of labelled images or of a video.

    A set holds windows of events with labels and image at each window's end.

    Labelled images are seen by a moving camera, or their vehicles and people move past a fixed
    one, or both; with --seconds these become recordings. A video becomes consecutive windows
    without labels. With --resume the same command continues after an interruption, or changes the
    length of a finished set to --count.
    """
    from dataclasses import replace

    from evdistill_core.cli._classes import check_images, skeleton_for_unknown_classes
    from evdistill_core.cli._outputs import target_of
    from evdistill_core.data.labelled_images import find_images
    from evdistill_core.data.simulated_films import FILM
    from evdistill_core.data.simulated_sets import (
        SimulateConfig,
        simulate_images,
        simulate_video,
        simulated_classes,
    )
    from evdistill_core.foundation.config import from_mapping, load_yaml, naming
    from evdistill_core.foundation.errors import DataError
    from evdistill_core.foundation.outputs import check_file, check_folder
    from evdistill_core.foundation.suggestions import near_path
    from evdistill_core.simulation.dataset import INDEX

    folder = target_of(target, out, source)
    if not source.exists():
        raise DataError(f"{source} does not exist{near_path(source)}")
    if seconds is not None and not source.is_dir():
        raise DataError(
            f"--seconds makes recordings of a folder of labelled images; {source} is a file"
        )
    if seconds is not None and (resume or preview is not None):
        raise DataError("recordings (--seconds) are made without --preview and --resume")
    content = load_yaml(config) if config else {}
    with naming(config):
        settings = from_mapping(SimulateConfig, content)
    configured = settings.classes if "classes" in content else None
    cure = "go on with the same set by --resume"
    check_folder(folder, (INDEX, f"{FILM}*"), overwrite=overwrite or resume, cure=cure)
    if preview is not None:
        check_file(preview, overwrite=overwrite or resume, sources=(source,))
    if preview is not None and preview.suffix.lower() not in (".png", ".jpg"):
        raise DataError(f"--preview must end in .png or .jpg, got {preview.name!r}")
    try:
        if source.is_dir():
            images = find_images(
                source,
                split,
                names=settings.names,
                class_map=settings.class_map,
                layout=layout or "",
            )
            with skeleton_for_unknown_classes(write_classes, overwrite=overwrite):
                table, origin = simulated_classes(images, given=classes, configured=configured)
            if table.masks is not None:
                check_images((images,), table, origin)
            settings = replace(settings, classes=table)
            if seconds is not None:
                _films(images, folder, settings, seed, count or 1, seconds, overwrite)
                return
            total = count or 256
            with _progress(total) as report:
                simulate_images(
                    images, folder, settings, seed=seed, count=total, workers=workers,
                    overwrite=overwrite, on_window=report,
                )  # fmt: skip
        else:
            with _progress(count) as report:
                simulate_video(
                    source, folder, settings, seed=seed, count=count, overwrite=overwrite,
                    on_window=report,
                )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"stopped: the same command with --resume continues {folder}", err=True)
        raise
    _finish(folder, preview)


def _films(
    images: ImagesConfig,
    folder: Path,
    settings: SimulateConfig,
    seed: int,
    count: int,
    seconds: float,
    overwrite: bool,
) -> None:
    from evdistill_core.data.simulated_films import simulate_films, windows_of_film

    windows = windows_of_film(seconds, settings)
    with _progress(count * windows) as report:
        simulate_films(
            images, folder, settings, seed=seed, count=count, seconds=seconds, overwrite=overwrite,
            on_window=report,
        )  # fmt: skip
    made = "1 recording" if count == 1 else f"{count} recordings"
    typer.echo(f"{folder}: {made} of {windows} labelled windows each")


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how many windows are done, their rate and the time left, on stderr."""
    from evdistill_core.foundation.progress import ProgressView

    first: list[int] = []
    with ProgressView("simulating", transient=True) as view:

        def report(done: int) -> None:
            first.append(done)  # windows of an earlier run do not count as speed
            rate = (done - first[0]) / max(view.elapsed_s, 1e-9)
            fraction = done / total if total else None
            of_all = f"{done:,}/{total:,} windows" if total else f"{done:,} windows"
            view.update(fraction, of_all, f"{rate:.1f} windows/s")

        yield report


def _finish(out: Path, preview: Path | None) -> None:
    """Say what was made, and draw the first windows."""
    from evdistill_core.simulation.dataset import SimulatedSet, read_index

    made = SimulatedSet(out)
    events = sum(int(s["events"]) for s in (read_index(out) or {})["shards"])
    what = "labelled windows" if made.is_labelled else "windows without labels"
    typer.echo(f"{out}: {len(made):,} {what} of {made.width}x{made.height}, {events:,} events")
    if preview is not None:
        from evdistill_core.data.preview import preview as draw
        from evdistill_core.drawing.sheets import write_image

        shown = [made[i] for i in range(min(PREVIEWED, len(made)))]
        write_image(preview, draw(shown, made.classes if made.is_labelled else None))
        typer.echo(
            f"{preview}: the first {len(shown)} windows, one a column: image, events, labels"
        )

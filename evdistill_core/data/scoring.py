"""Scoring a student file or a checkpoint on labelled sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from evdistill_core.data.build import build_evaluation_sets, classes_of_sets
from evdistill_core.data.samples import Sample, SampleSource
from evdistill_core.evaluation.page import Panel, Result, Scored, panel_row, write_evaluation
from evdistill_core.evaluation.pictures import input_picture
from evdistill_core.evaluation.recognition import caption_picture, score_recognition
from evdistill_core.evaluation.segmentation import (
    DEFAULT_ACTIVITY_RADIUS_PX,
    LabelledWindow,
    Predict,
    score_windows,
)
from evdistill_core.foundation.invocation import command_text
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.progress import ProgressView
from evdistill_core.inference.runner import Device, run_sequence
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import SUFFIX, StudentFile, student_path
from evdistill_core.models.registry import network_task
from evdistill_core.models.task_name import TaskName
from evdistill_core.perception.student import Student
from evdistill_core.reports.origin import Stopwatch
from evdistill_core.representations.spec import InputSpec

PANEL_WINDOWS = 8


@dataclass(frozen=True)
class Predictor:
    """Something that turns inputs into logits, and what it is.

    Attributes:
        predict: (C, H, W) input, or (T, C, H, W) inputs in a row -> logits (K, h, w) of the last,
            or (K,) of recognition.
        input: what it must be fed.
        classes: what its logits mean.
        path: of the student file or checkpoint.
        description: for the report.
        task: what it does.
    """

    predict: Predict
    input: InputSpec
    classes: ClassTable
    path: Path
    description: str
    task: TaskName = "segmentation"


def load_predictor(path: Path, *, runtime: str = "auto", device: str = "auto") -> Predictor:
    """Load a student file, or the averaged weights of a checkpoint (torch, CPU).

    Raises:
        StudentError: the file is missing, damaged or neither of the two.
        ConfigError: runtime or device do not exist here.
    """
    path = student_path(path)
    if path.suffix == SUFFIX:
        student = StudentFile.open(path)
        # make_runner refuses unknown words by itself.
        runner = make_runner(student, runtime=runtime, device=cast("Device", device))
        return Predictor(
            partial(run_sequence, runner),
            student.info.input,
            student.info.classes,
            path,
            f"{path} ({runner.description})",
            cast("TaskName", student.info.task),
        )
    return _checkpoint_predictor(path)


def _checkpoint_predictor(path: Path) -> Predictor:
    import torch  # noqa: PLC0415 - student files do without

    from evdistill_core.models.checkpoint import load_checkpoint  # noqa: PLC0415
    from evdistill_core.models.network import logits_of  # noqa: PLC0415

    checkpoint = load_checkpoint(path)
    network = checkpoint.build()

    def predict(network_input: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = logits_of(network, torch.from_numpy(network_input)[None])[0].numpy()
        return cast("npt.NDArray[np.float32]", logits)

    return Predictor(
        predict,
        checkpoint.input,
        checkpoint.classes,
        path,
        f"{path} (torch, cpu)",
        network_task(checkpoint.network),
    )


def evaluate(  # noqa: PLR0913 - options by name
    student: str | Path | Student,
    dataset: str | Path,
    *,
    classes: str | Path | None = None,
    out: str | Path = "out/evaluation",
    windows: int = 0,
    activity_radius_px: int = DEFAULT_ACTIVITY_RADIUS_PX,
    runtime: str = "auto",
    device: str = "auto",
    seed: int | None = None,
) -> dict[str, Result]:
    """Score a student on labelled windows, and write report.json and report.html.

    Args:
        student: a student file, a checkpoint, or a loaded student (its file is scored).
        dataset: YAML with the sets to score (``config/eval``), a folder that ``evdistill
            simulate`` made, or one with a recording and masks.
        classes: a class file or a preset (docs/how-to/classes.md) that says what labels mean; None:
            the class file beside the data, or the classes that the student was trained with.
        out: folder of the report.
        windows: score at most this many windows a set; 0: all.
        activity_radius_px: half side of the square that counts as near an event.
        runtime: "auto", "onnxruntime" or "torch".
        device: "auto", "cpu" or "cuda".
        seed: of the simulated sets, instead of the file's.

    Returns:
        The result of each set by name; ``result.summary`` is one line of it.

    Raises:
        StudentError, ConfigError, DataError: something is missing, damaged or does not fit.
    """
    stopwatch = Stopwatch()
    path = student.path if isinstance(student, Student) else Path(student).expanduser()
    dataset = Path(dataset).expanduser()
    predictor = load_predictor(path, runtime=runtime, device=device)
    given = None if classes is None else str(classes)
    table, _ = classes_of_sets(dataset, predictor.classes, given=given)
    predictor = replace(predictor, classes=table)
    sets = build_evaluation_sets(
        dataset, predictor.input, predictor.classes, limit=windows, seed=seed
    )
    results, _ = evaluate_sets(
        predictor,
        sets,
        Path(out),
        dataset=str(dataset),
        activity_radius_px=activity_radius_px,
        stopwatch=stopwatch,
    )
    return results


def evaluate_sets(  # noqa: PLR0913 - options by name
    predictor: Predictor,
    sets: Mapping[str, SampleSource],
    out: Path,
    *,
    dataset: str,
    activity_radius_px: int,
    stopwatch: Stopwatch,
    films: Mapping[str, object] | None = None,
) -> tuple[dict[str, Result], Path]:
    """Score every set and write the report (see ``evaluation.page``).

    Args:
        predictor: what is scored.
        sets: by name.
        out: folder of the report.
        dataset: what the user named.
        activity_radius_px: half side of the square that counts as near an event.
        stopwatch: started when the work began.
        films: scores of boxes and tracks (``score_films``), which the report tells too.

    Returns:
        The results by name of the set, and the page.
    """
    results: dict[str, Result] = {}
    panels: dict[str, Panel] = {}
    for name, source in sets.items():
        windows = _shown(name, source)
        score = _score_recognition if predictor.task == "recognition" else _score_segmentation
        results[name], panels[name] = score(predictor, windows, activity_radius_px)
    facts = {
        "student": predictor.description,
        "dataset": dataset,
        "windows": {name: len(source) for name, source in sets.items()},
        "input": predictor.input.to_mapping(),
    }
    scored = Scored(
        predictor.path.name,
        predictor.description,
        dataset,
        predictor.classes,
        facts,
        _next_steps(predictor.path, out),
    )
    page = write_evaluation(out, scored, results, panels, stopwatch=stopwatch, films=films)
    return results, page


def _next_steps(path: Path, out: Path) -> list[tuple[str, str]]:
    """Return what to do after an evaluation: export a checkpoint, run a student file."""
    student, steps = path, []
    if path.suffix != SUFFIX:
        student = path.with_suffix(SUFFIX)
        text = "Export the checkpoint to a student file, which nodes and `run` load:"
        steps.append((text, command_text("export", path, student)))
    text = "See the masks on a recording of your own:"
    run = command_text("run", "RECORDING", "--student", student, "--out", out.parent / "run")
    return [*steps, (text, run)]


def _shown(name: str, source: SampleSource) -> Iterator[Sample]:
    """Yield every window of a set; show on stderr how many are done."""
    count = len(source)
    with ProgressView(name, transient=True) as view:
        for i in range(count):
            yield source.sample(i)
            view.update((i + 1) / count, f"{i + 1:,}/{count:,} windows")


def _score_segmentation(
    predictor: Predictor, windows: Iterable[LabelledWindow], activity_radius_px: int
) -> tuple[Result, Panel]:
    rows: Panel = []

    def keep(window: LabelledWindow, mask: npt.NDArray[np.uint8]) -> None:
        if len(rows) < PANEL_WINDOWS and (not rows or rows[0][0].shape[:2] == mask.shape):
            rows.append(
                panel_row(
                    window,
                    mask,
                    predictor.classes,
                    kind=predictor.input.kind,
                    activity_radius_px=activity_radius_px,
                )
            )

    result = score_windows(
        predictor.predict,
        windows,
        predictor.classes,
        activity_radius_px=activity_radius_px,
        each=keep,
    )
    return result, rows


def _score_recognition(
    predictor: Predictor, windows: Iterable[LabelledWindow], activity_radius_px: int
) -> tuple[Result, Panel]:
    del activity_radius_px  # there are no pixels to be near to
    row: list[npt.NDArray[np.uint8]] = []

    def keep(window: LabelledWindow, guess: int) -> None:
        if len(row) < PANEL_WINDOWS:
            picture = input_picture(window.input, predictor.input.kind)
            framed = caption_picture(picture, int(window.label[0, 0]), guess)
            if not row or framed.shape == row[0].shape:
                row.append(framed)

    result = score_recognition(predictor.predict, windows, predictor.classes, each=keep)
    return result, [row] if row else []

"""Scoring the boxes and tracks of a student on films: recordings beside boxes with ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evdistill_core.data.recorded_masks import (
    LABELS,
    holds_labelled_recordings,
    labelled_recordings,
    recording_in,
)
from evdistill_core.evaluation.box_scores import score_sequences
from evdistill_core.evaluation.detections import ScoredBox
from evdistill_core.evaluation.replay import nearest_results
from evdistill_core.evaluation.replay_labels import read_boxes
from evdistill_core.evaluation.tracks import Frame
from evdistill_core.perception.student import Student


def films_in(path: Path) -> list[Path]:
    """Return the folders of films (with boxes) that a path is or holds, sorted; none: empty."""
    if not path.is_dir() or not holds_labelled_recordings(path):
        return []
    return [folder for folder in labelled_recordings(path) if (folder / LABELS).is_file()]


def score_films(student: Student, films: Sequence[Path]) -> dict[str, object]:
    """Run a student over films, as ``evdistill run`` does, and score its boxes and tracks.

    Args:
        student: of segmentation.
        films: folders, see ``films_in``; at least one.

    Returns:
        What ``score_sequences`` gives, and ``films``: how many there are.

    Raises:
        DataError: labels have a class that the student lacks, or none is near a window.
        RecordingError: a recording cannot be read.
    """
    sequences = [_frames(student, film) for film in films]
    return {"films": len(films), **score_sequences(sequences, student.classes.names)}


def _frames(student: Student, film: Path) -> list[Frame]:
    truth = read_boxes(film / LABELS, student.classes.names)
    found = {
        1000 * result.t_end_us: [
            ScoredBox(d.class_id, d.box_xyxy, d.score, str(d.track_id)) for d in result.detections
        ]
        for result in student.predict(recording_in(film))
    }
    pairs = nearest_results(sorted(found), truth, "detections")
    return [(truth[t], found[stamp]) for stamp in sorted(pairs) for t in sorted(pairs[stamp])]

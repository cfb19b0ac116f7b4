"""Scoring the boxes and tracks of a student on recordings that have boxes with ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

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
from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.inference.prediction import Detection
from evdistill_core.perception.student import Student
from evdistill_core.recordings.opening import open_recording

# From the windows of a recording to the end (us) and the boxes of each.
Detector = Callable[[Iterator[Window]], Iterator[tuple[int, Sequence[Detection]]]]


def films_in(path: Path) -> list[Path]:
    """Return the folders of recordings with boxes that a path is or holds, sorted."""
    if not path.is_dir() or not holds_labelled_recordings(path):
        return []
    return [folder for folder in labelled_recordings(path) if (folder / LABELS).is_file()]


def score_films(student: Student, films: Sequence[Path]) -> dict[str, object]:
    """Run a student over recordings and score its boxes and tracks.

    Windows are as long as the student's and end at the labels (see ``windows_to``), whenever the
    first event of a recording comes.

    Args:
        student: of segmentation.
        films: folders, see ``films_in``; at least one.

    Returns:
        What ``score_sequences`` gives, and ``films``: how many there are.

    Raises:
        DataError: labels have a class that the student lacks, or none is near a window.
        RecordingError: a recording cannot be read.
    """

    def find(windows: Iterator[Window]) -> Iterator[tuple[int, Sequence[Detection]]]:
        for result in student.predict(windows):
            yield result.t_end_us, result.detections

    window_us = student.parameters.window_us or student.input.window_us
    return score_detector(find, films, student.classes.names, window_us)


def score_detector(
    find: Detector, films: Sequence[Path], classes: Sequence[str], window_us: int
) -> dict[str, object]:
    """Run anything that finds boxes with ids over recordings and score it, as ``score_films`` does.

    Args:
        find: is called once a recording with its windows. It yields the end of each window (us) and
            what it found there.
        films: folders, see ``films_in``; at least one.
        classes: names of its classes; the position is the id.
        window_us: length of its windows.
    """
    sequences = [_frames(find, film, classes, window_us) for film in films]
    return {"films": len(films), **score_sequences(sequences, classes)}


def _frames(find: Detector, film: Path, classes: Sequence[str], window_us: int) -> list[Frame]:
    truth = read_boxes(film / LABELS, classes)
    with open_recording(recording_in(film)) as recording:
        events = Events.concatenate([batch.events for batch in recording.batches()])
    windows = windows_to([stamp // 1000 for stamp in sorted(truth)], events, window_us)
    found = {
        1000 * end_us: [
            ScoredBox(d.class_id, d.box_xyxy, d.score, str(d.track_id)) for d in detections
        ]
        for end_us, detections in find(windows)
    }
    pairs = nearest_results(sorted(found), truth, "detections")
    return [(truth[t], found[stamp]) for stamp in sorted(pairs) for t in sorted(pairs[stamp])]


def windows_to(ends_us: Sequence[int], events: Events, window_us: int) -> Iterator[Window]:
    """Yield windows that end at given times, and those between them.

    Args:
        ends_us: rising.
        events: sorted by time.
        window_us: length. Windows overlap where two ends are closer than that, and more windows
            fill the time between ends that are further apart.

    Yields:
        Windows in order; of those without events in a row the first only, as in a live stream.
    """
    all_ends: list[int] = []
    for end_us in ends_us:
        before_us = all_ends[-1] if all_ends else end_us - window_us
        between = range(end_us - window_us, before_us, -window_us)
        all_ends += [*reversed(between), end_us]
    was_empty, index = False, 0
    for end_us in all_ends:
        first, last = np.searchsorted(events.t_us, (end_us - window_us, end_us))
        if first < last or not was_empty:
            yield Window(events[first:last], end_us - window_us, end_us, index)
            index += 1
        was_empty = bool(first == last)

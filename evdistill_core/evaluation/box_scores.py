"""All scores of boxes in sequences of images, and how they are told to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evdistill_core.evaluation.average_precision import BoxPrecision
from evdistill_core.evaluation.detections import DetectionScorer
from evdistill_core.evaluation.tracks import Frame, TrackScorer
from evdistill_core.reports.numbers import percent

_BOXES = {"ap50": "AP50", "ap50_95": "AP50:95"}
_TRACKS = {"idf1": "IDF1", "mota": "MOTA", "hota": "HOTA", "det_a": "DetA", "ass_a": "AssA"}


def score_sequences(
    sequences: Sequence[Sequence[Frame]], classes: Sequence[str]
) -> dict[str, object]:
    """Return scores of boxes, and of tracks if boxes have ids, for JSON (0..1).

    Args:
        sequences: (true boxes, found boxes) of every image, in order of time; ids mean something
            in one sequence.
        classes: names.

    Returns:
        What ``DetectionScorer`` gives; ``coco``: AP50 and AP50:95; ``tracking``: IDF1, MOTA, HOTA,
        None where a box has no id, or two of an image have one.

    Raises:
        DataError: a class does not exist.
    """
    detections, coco = DetectionScorer(len(classes)), BoxPrecision(len(classes))
    tracks = TrackScorer(len(classes))
    for frames in sequences:
        for truth, found in frames:
            detections.add(truth, found)
            coco.add(truth, found)
    sides = [side for frames in sequences for pair in frames for side in pair]
    has_ids = all(_are_ids([b.track_id for b in side]) for side in sides)
    if has_ids:
        for frames in sequences:
            tracks.add_sequence(frames)
    return {
        **detections.to_dict(classes),
        "coco": coco.to_dict(classes),
        "tracking": tracks.to_dict(classes) if has_ids else None,
    }


def _are_ids(names: Sequence[str]) -> bool:
    return all(names) and len(set(names)) == len(names)


def score_rows(scores: Mapping[str, Any]) -> list[tuple[list[str], list[list[str | int]]]]:
    """Return the tables of ``score_sequences``: heads, and rows of a class each, in percent.

    The last row is that of all classes: the mean of AP, and tracks counted together.
    """
    names = list(scores["classes"])
    head = ["boxes, %", "true", "found", *_BOXES.values()]
    rows: list[list[str | int]] = [
        [
            name,
            scores["classes"][name]["true"],
            scores["classes"][name]["found"],
            *(percent(scores["coco"]["classes"][name][key]) for key in _BOXES),
        ]
        for name in names
    ]
    totals = [sum(row[k] for row in scores["classes"].values()) for k in ("true", "found")]
    rows.append(["all", *totals, *(percent(scores["coco"][key]) for key in _BOXES)])
    tables = [(head, rows)]
    tracking = scores["tracking"]
    if tracking is not None:
        both = [*((n, tracking["classes"][n]) for n in tracking["classes"]), ("all", tracking)]
        tracks: list[list[str | int]] = [
            [name, *(percent(row[key]) for key in _TRACKS), row["id_switches"]]
            for name, row in both
        ]
        tables.append((["tracks, %", *_TRACKS.values(), "id changes"], tracks))
    return tables


def score_lines(scores: Mapping[str, Any]) -> list[str]:
    """Return the same tables as lines of text with columns."""
    lines = []
    for head, rows in score_rows(scores):
        cells = [head, *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
        for row in cells:
            first = row[0].ljust(widths[0])
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join([first, *rest]))
    return lines

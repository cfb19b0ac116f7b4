"""``evdistill report``: what a recording of a node's results says, and its score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from evdistill_core.cli._command import Place
from evdistill_core.cli._options import Json, Overwrite

PLACE = Place("Recordings", 7)
EXAMPLES = (
    "evdistill report out/street/masks.mcap",
    "evdistill report out/street/masks.mcap --labels labels.mcap --out score.html",
)

OUT = Path("out/report/report.html")
"""The page where no other name is given; it belongs to the command."""


def command(
    results: Annotated[
        Path,
        typer.Argument(metavar="RESULTS", help="Bag of results: of replay.launch.py, or of `run`."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="What is true. Of masks: a bag with a topic .../mask (mono8), .../detections, or "
            "both, or a bbox.npy of Gen1 or 1 Mpx. Of classes: a CSV file start_ns,end_ns,class, "
            "or a bag with .../classification.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where to write the report: a page if the name ends in .html, else the JSON "
            "object. Default: the page out/report/report.html, which the next call replaces.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Count the results of a run and score them.

    Prints the counts and writes a page. The score needs --labels: IoU of masks, AP50 and AP50:95 of
    boxes, and IDF1, MOTA and HOTA of tracks where the true boxes have ids. Scores are in percent.
    """
    import json

    from evdistill_core.cli._outputs import print_json
    from evdistill_core.evaluation.box_scores import score_lines
    from evdistill_core.evaluation.replay import replay_report
    from evdistill_core.evaluation.replay_page import write_replay_page
    from evdistill_core.foundation.files import write_text_atomic
    from evdistill_core.foundation.outputs import check_file
    from evdistill_core.reports.origin import Stopwatch

    stopwatch = Stopwatch()
    if out is not None:
        sources = (results,) if labels is None else (results, labels)
        check_file(out, overwrite=overwrite, sources=sources)
    report = replay_report(results, labels)
    page = None
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        write_text_atomic(out, json.dumps(report, indent=2, allow_nan=False) + "\n")
    elif out is not None or not as_json:
        page = write_replay_page(report, out or OUT, results=results, stopwatch=stopwatch)
    if as_json:
        print_json(report)
        return
    shown = _for_people(report)
    boxes = shown.pop("detection_score", None)
    for line in _lines(shown):
        typer.echo(line)
    if isinstance(boxes, Mapping):
        for line in [*_lines(_box_facts(boxes)), *score_lines(boxes)]:
            typer.echo(line)
    if page is not None:
        typer.echo(f"report: {page}")


def _box_facts(boxes: Mapping[str, object]) -> dict[str, object]:
    """Return of the scores of boxes what stands in no table."""
    from evdistill_core.reports.numbers import percent

    facts: dict[str, object] = {"labels_scored": f"{boxes['labels_scored']} of {boxes['labels']}"}
    facts |= {k: percent(cast("float | None", boxes[k])) + " %" for k in ("precision", "recall")}
    if boxes.get("labels_left_out"):
        facts["labels_left_out"] = boxes["labels_left_out"]
    return {f"boxes, overlap {boxes['min_iou']:g}": facts}


def _for_people(report: Mapping[str, object]) -> dict[str, object]:
    """Return the report with a line a stage, and without counters that are zero."""
    found = dict(report)
    if found["task"] == "segmentation":
        del found["over_time"]  # a curve of the page
    counters, latency = found.pop("counters", {}), found.pop("latency_ms", {})
    assert isinstance(counters, dict)
    assert isinstance(latency, dict)
    counted = {name: f"{count:,}" for name, count in counters.items() if count}
    if counters:
        found["counters"] = counted | {"all others": 0}
    stages: dict[str, list[str]] = {}
    for name, value in latency.items():
        stage, _, percentile = name.rpartition("_ms_")
        stages.setdefault(stage, []).append(f"{percentile} {value:g}")
    if stages:
        found["latency, ms"] = {stage: "  ".join(values) for stage, values in stages.items()}
    return found


def _lines(facts: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Yield nested facts as indented lines for people."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
            yield f"{indent}{name}"
            for row in value:
                yield indent + "  " + ", ".join(f"{k} {_text(v)}" for k, v in row.items())
        else:
            text = ", ".join(map(_text, value)) if isinstance(value, list) else _text(value)
            yield f"{indent}{name:<{width}}  {text}"


def _text(value: object) -> str:
    return "-" if value is None else str(value)

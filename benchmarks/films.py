"""AP of boxes and scores of tracks on simulated recordings: students, components, clusters.

    evdistill simulate data/camvid films --split test --classes street6 --seconds 3 --count 12
        --seed 77 --config benchmarks/films.yaml
    python benchmarks/films.py films [--students FILE ...] [--precision int8] [--json FILE]

Each student is scored twice: with the instances of its head, and with connected components of
its mask. The baseline has no network: every connected region of events with a neighbour is called
a vehicle, with the settings that find most cars on the street recording (see
real_recordings.py). All of them have the same tracker.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from real_recordings import CLUSTERS, SHIPPED, ClusterMethod

from evdistill_core.data.film_scores import films_in, score_detector, score_films
from evdistill_core.evaluation.box_scores import percent
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.prediction import Detection
from evdistill_core.inference.tracking import Tracker
from evdistill_core.perception.student import Student

NANO = SHIPPED.with_name("street6-nano.evstudent")
WINDOW_US = 50_000
HEAD = (
    "method", "AP50 human", "AP50 vehicle", "AP50:95 human", "AP50:95 vehicle",
    "IDF1 human", "IDF1 vehicle", "MOTA", "HOTA", "id changes",
)  # fmt: skip


def find_clusters(windows: Iterator[Window]) -> Iterator[tuple[int, Sequence[Detection]]]:
    """Yield the end (us) of each window and its clusters, tracked."""
    method, tracker = ClusterMethod(SIX_CLASSES, CLUSTERS), Tracker()
    for window in windows:
        found = tracker.update(
            method(window).detections,
            t_start_us=window.t_start_us,
            t_end_us=window.t_end_us,
            size=(window.events.height, window.events.width),
        )
        yield window.t_end_us, found


def cells(name: str, scores: dict[str, Any]) -> list[str]:
    """Return the row of a method, in percent."""
    boxes, tracks = scores["coco"]["classes"], scores["tracking"]
    row = [name]
    for key in ("ap50", "ap50_95"):
        row += [percent(boxes.get(c, {}).get(key)) for c in ("human", "vehicle")]
    row += [percent(tracks["classes"].get(c, {}).get("idf1")) for c in ("human", "vehicle")]
    row += [percent(tracks["mota"]), percent(tracks["hota"]), str(tracks["id_switches"])]
    return row


def main() -> None:
    """Score every method and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", type=Path)
    parser.add_argument("--students", type=Path, nargs="*", default=[SHIPPED, NANO])
    parser.add_argument("--precision", default="fp32", help="of the networks, such as int8")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    films = films_in(args.films)
    if not films:
        raise SystemExit(f"{args.films} holds no recordings; see the head of {Path(__file__).name}")
    scores: dict[str, dict[str, Any]] = {}
    for path in args.students:
        for how in ("auto", "components"):
            name = path.stem if how == "auto" else f"{path.stem}, components"
            scores[name] = score_films(
                Student.load(path, instances=how, precision=args.precision), films
            )
    scores["clusters, no network"] = score_detector(
        find_clusters, films, SIX_CLASSES.names, WINDOW_US
    )
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for name, found in scores.items():
        print("| " + " | ".join(cells(name, found)) + " |")
    if args.json:
        args.json.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except EvdistillError as error:
        sys.exit(f"error: {error}")

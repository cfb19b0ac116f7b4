"""How far students agree with a teacher on the frames of a real camera.

    python benchmarks/aps_agreement.py TEACHER.pt BEFORE.evstudent [AFTER ...] [--from-s 1.2]

The recording has events and ordinary frames of one sensor, and no labels. For every frame, the
student answers on the window that ends at it, the teacher on the frame itself, and both are
compared where the live side would publish a label and an event fired. A teacher on a frame is no
truth: what it calls the moving cars, found in the frames by differencing (real_recordings.py), is
printed beside it. Students after the first are compared with the first: the interval resamples
blocks of successive frames, which are far from independent, and says how much of a difference
could be the choice of these seconds. It knows nothing of other streets and of other seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import real_recordings as real
import torch

from evdistill_core.data.recording_index import IndexedRecording, index_recording
from evdistill_core.drawing.colours import to_bgr
from evdistill_core.drawing.overlay import legend, overlay
from evdistill_core.drawing.sheets import contact_sheet, write_image
from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.events.array import Events
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.postprocess import PostprocessConfig, event_support, segment
from evdistill_core.inference.prediction import Prediction
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.messages.images import to_grey
from evdistill_core.representations import represent
from evdistill_core.training.teacher import NetworkTeacher, load_teacher

Mask = npt.NDArray[np.uint8]
CONFIG = PostprocessConfig()
MULTIPLE = 32
DRAWS = 10_000


@dataclass(frozen=True)
class Moment:
    """A frame and the window that ends at it.

    Attributes:
        t_s: end of the window, seconds after the first event.
        events: of the window.
        fired: (H, W) 1 where an event fired and the live side would publish a label.
        frame: (H, W) grey.
        teacher: (H, W) the teacher's classes on the frame.
        cars: (H, W) 1 within boxes of what moves in the frames.
    """

    t_s: float
    t_end_us: int
    events: Events
    fired: Mask
    frame: Mask
    teacher: Mask
    cars: Mask


def moments(path: Path, teacher: NetworkTeacher, *, window_us: int, cache: Path) -> list[Moment]:
    """Return every frame before which a whole window of events lies."""
    recording = index_recording(path, cache)
    frames = real.frames_of(path)
    first_us = recording.segments[0].t_start_us
    found = []
    for i, frame in enumerate(frames):
        if frame.t_us - window_us < first_us:
            continue
        events = _events_before(recording, frame.t_us, window_us)
        fired = np.zeros((events.height, events.width), np.uint8)
        fired[events.y, events.x] = 1
        grey = np.asarray(to_grey(frame.image), np.uint8)
        cars = np.zeros_like(fired)
        for left, top, right, bottom in real.moving_boxes(frames, i):
            cars[top:bottom, left:right] = 1
        found.append(
            Moment(
                (frame.t_us - first_us) / 1e6, frame.t_us, events,
                fired & event_support(events, CONFIG), grey, teacher_mask(teacher, grey), cars,
            )
        )  # fmt: skip
    return found


def _events_before(recording: IndexedRecording, t_us: int, window_us: int) -> Events:
    holds = [p for p in recording.segments if p.t_start_us <= t_us - window_us]
    return recording.events(holds[-1], t_us - window_us, t_us)


def teacher_mask(teacher: NetworkTeacher, frame: Mask) -> Mask:
    """Return the teacher's most likely class at every pixel of a grey frame."""
    height, width = frame.shape
    pad = [(0, -n % MULTIPLE) for n in (height, width)]
    x = torch.from_numpy(np.pad(frame, pad, mode="edge").astype(np.float32) / 127.5 - 1)
    with torch.inference_mode():
        log_p = teacher.log_posterior(teacher.network(x[None, None]).float())[0].numpy()
    everywhere = np.ones((height, width), np.uint8)
    return segment(log_p, everywhere, stride=(height + pad[0][1]) / log_p.shape[1])[0]


def student_masks(student: StudentFile, moments: Sequence[Moment]) -> list[Mask]:
    """Return what the live side would publish for every moment (255: no label)."""
    runner: Runner = make_runner(student)
    spec, masks = student.info.input, []
    for moment in moments:
        e = moment.events
        grid = spec.grid(height=e.height, width=e.width)
        t_end_us = moment.t_end_us
        logits = runner.run(represent(e, spec, t_end_us - spec.window_us, t_end_us))
        stride = runner.output_stride * grid.factor
        masks.append(segment(logits, event_support(e, CONFIG), stride=stride)[0])
    return masks


def counts_of(truth: Sequence[Mask], masks: Sequence[Mask], where: Sequence[Mask], k: int) -> Any:
    """Return (frames, K, K) counts of (teacher's class, student's class)."""
    counts = []
    for t, m, w in zip(truth, masks, where, strict=True):
        confusion = Confusion(k)
        confusion.add(t, m, w > 0)
        counts.append(confusion.counts[:, :k])
    return np.array(counts)


def agreement(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of equal pixels, and the mean IoU of classes that either names."""
    total = counts.sum(0).astype(np.float64)
    hits = np.diag(total)
    union = total.sum(0) + total.sum(1) - hits
    return float(hits.sum() / total.sum()), float((hits[union > 0] / union[union > 0]).mean())


def interval(
    before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], *, block: int, seed: int = 0
) -> list[tuple[float, float]]:
    """Return the 95 % intervals of both differences over circular blocks of frames."""
    rng = np.random.default_rng(seed)
    n = len(before)
    starts = rng.integers(n, size=(DRAWS, -(-n // block)))
    rows = ((starts[:, :, None] + np.arange(block)) % n).reshape(DRAWS, -1)[:, :n]
    drawn = np.array([np.subtract(agreement(after[r]), agreement(before[r])) for r in rows])
    return [tuple(np.percentile(d, (2.5, 97.5)).tolist()) for d in drawn.T]


def per_class(counts: npt.NDArray[np.int64], names: Sequence[str]) -> list[dict[str, object]]:
    """Return pixels of each class by the teacher, by the student, and by both."""
    total = counts.sum(0)
    return [
        {
            "class": name,
            "teacher": int(total[i].sum()),
            "student": int(total[:, i].sum()),
            "both": int(total[i, i]),
        }
        for i, name in enumerate(names)
    ]


def compare(
    found: Sequence[Moment], students: Sequence[StudentFile], *, block: int
) -> list[dict[str, object]]:
    """Return a row a student: agreement, classes, and what each calls the moving cars."""
    classes = students[0].info.classes
    k, vehicle = len(classes), classes.names.index("vehicle")
    where = [m.fired for m in found]
    teacher = [m.teacher for m in found]
    rows: list[dict[str, object]] = []
    first = None
    for student in students:
        masks = student_masks(student, found)
        counts = counts_of(teacher, masks, where, k)
        first = counts if first is None else first
        same, miou = agreement(counts)
        row: dict[str, object] = {
            "student": student.path.name,
            "frames": len(found),
            "pixels": int(counts.sum()),
            "agreement": same,
            "miou": miou,
            "classes": per_class(counts, classes.names),
            "vehicle_on_cars": share_on_cars(found, masks, vehicle),
        }
        if counts is not first:
            difference = np.subtract(agreement(counts), agreement(first)).tolist()
            row["difference"] = dict(zip(("agreement", "miou"), difference, strict=True))
            spans = interval(first, counts, block=block)
            row["difference_95"] = dict(zip(("agreement", "miou"), spans, strict=True))
        rows.append(row)
    return rows


def share_on_cars(found: Sequence[Moment], masks: Sequence[Mask], vehicle: int) -> dict[str, float]:
    """Return which share of fired pixels is called vehicle, within boxes of cars and outside."""
    shares = {}
    for name, inside in (("inside", 1), ("outside", 0)):
        picked = [m[(f.cars == inside) & (f.fired > 0)] for f, m in zip(found, masks, strict=True)]
        called = np.concatenate(picked)
        shares[name] = float((called == vehicle).mean()) if called.size else float("nan")
    return shares


def print_table(rows: Sequence[dict[str, Any]], classes: ClassTable) -> None:
    """Print a line a student, in per cent; a class has pixels of the teacher, its own, and both."""
    names = [f"{n} (teacher/own/both)" for n in classes.names]
    head = ["student", "agreement", "mIoU", "minus the first", "vehicle on/off cars", *names]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        change = [
            f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            for value, (low, high) in zip(
                row.get("difference", {}).values(),
                row.get("difference_95", {}).values(),
                strict=True,
            )
        ]
        cells = [
            row["student"],
            f"{100 * row['agreement']:.1f}",
            f"{100 * row['miou']:.1f}",
            ", mIoU ".join(change) or "-",
            _on_cars(row["vehicle_on_cars"]),
            *(f"{c['teacher']}/{c['student']}/{c['both']}" for c in row["classes"]),
        ]
        print("| " + " | ".join(cells) + " |")


def _on_cars(shares: Any) -> str:
    return f"{100 * shares['inside']:.1f}/{100 * shares['outside']:.1f}"


def sheet(
    path: Path,
    found: Sequence[Moment],
    columns: dict[str, Sequence[Mask]],
    classes: ClassTable,
    *,
    rows: int,
) -> None:
    """Write a picture: a row a moment, the teacher everywhere, then each student."""
    chosen = np.linspace(0, len(found) - 1, min(rows, len(found))).round().astype(int)
    pictures, captions = [], []
    for i in chosen:
        for name, masks in columns.items():
            prediction = Prediction(masks[i], np.ones(masks[i].shape, np.float32), ())
            pictures.append(overlay(to_bgr(found[i].frame), prediction, classes))
            captions.append(f"{name} {found[i].t_s:.2f} s")
    page = contact_sheet(pictures, captions, columns=len(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.vstack([page, legend(classes, width=page.shape[1], more=())]))


def main() -> None:
    """Print the table and write JSON and a contact sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--from-s", type=float, default=0.0, help="only windows from here on")
    parser.add_argument("--to-s", type=float, default=float("inf"))
    parser.add_argument("--block", type=int, default=5, help="successive frames in a block")
    parser.add_argument("--rows", type=int, default=6, help="moments in the picture")
    parser.add_argument("--cache", type=Path, default=Path("cache/recordings"))
    parser.add_argument("--out", type=Path, default=Path("out/aps_agreement"))
    args = parser.parse_args()
    data = Path(os.environ.get("EVDISTILL_TEST_DATA", real.ROOT.parent / "shared" / "data"))
    recording = args.recording or data / real.STREET
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    students = [StudentFile.open(p) for p in args.students]
    classes, window_us = students[0].info.classes, students[0].info.input.window_us
    teacher = load_teacher(args.teacher, classes, torch.device("cpu"))
    found = [
        m
        for m in moments(recording, teacher, window_us=window_us, cache=args.cache)
        if m.t_s - window_us / 1e6 >= args.from_s and m.t_s < args.to_s
    ]
    rows = compare(found, students, block=args.block)
    masks = [m.teacher for m in found]
    vehicle = classes.names.index("vehicle")
    content = {
        "recording": recording.name,
        "teacher": str(args.teacher),
        "teacher_vehicle_on_cars": share_on_cars(found, masks, vehicle),
        "from_s": args.from_s,
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }
    print_table(rows, classes)
    print(
        "vehicle by the teacher on/off moving cars: " + _on_cars(content["teacher_vehicle_on_cars"])
    )
    columns: dict[str, Sequence[Mask]] = {"teacher": masks}
    columns |= {s.path.stem: student_masks(s, found) for s in students}
    sheet(args.out / "sheet.png", found, columns, classes, rows=args.rows)
    (args.out / "agreement.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The report of a run: windows, what became of every event, what was found, latencies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import psutil

from evdistill_core.events.account import account_of_stream
from evdistill_core.inference.prediction import Prediction
from evdistill_core.perception.pipeline import STAGES, Snapshot
from evdistill_core.perception.result import Result
from evdistill_core.perception.result_pictures import PictureCounts
from evdistill_core.recordings.base import RecordingInfo


class Found:
    """Counts what a student found, by class."""

    def __init__(self) -> None:
        self._boxes: Counter[str] = Counter()
        self._tracks: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        self._windows: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Count the detections of a window, or its likeliest class."""
        if isinstance(result.prediction, Prediction):
            for detection in result.prediction.detections:
                self._boxes[detection.class_name] += 1
                self._tracks[result.epoch, detection.track_id][detection.class_name] += 1
        elif result.prediction.guesses:
            self._windows[result.prediction.guesses[0].class_name] += 1

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts, most frequent class first.

        Returns:
            Class name to ``boxes`` and ``tracks``, or to ``windows`` for a student of recognition.
        """
        if self._windows:
            return {name: {"windows": count} for name, count in self._windows.most_common()}
        tracks = Counter(names.most_common(1)[0][0] for names in self._tracks.values())
        return {
            name: {"boxes": count, "tracks": tracks[name]}
            for name, count in self._boxes.most_common()
        }


def build_report(  # noqa: PLR0913 - what the parts of a run know
    snapshot: Snapshot,
    *,
    info: RecordingInfo,
    student: str,
    seconds: float,
    sensor_s: float,
    reader: Mapping[str, int],
    found: Found,
    files: list[Path],
    pictures: PictureCounts | None,
) -> dict[str, object]:
    """Return what report.json holds; latencies in milliseconds, memory in MB (1e6 bytes).

    Args:
        snapshot: of the pipeline after its end.
        info: of the recording.
        student: its name and where it ran.
        seconds: that the run took.
        sensor_s: seconds of sensor time in the windows.
        reader: counters of the recording, where it decoded the events itself; else empty.
        found: by the student.
        files: that the run wrote.
        pictures: how many windows were drawn; None: the run drew none.
    """
    counters = snapshot.counters
    account = account_of_stream(counters, reader)
    return {
        "recording": str(info.path),
        "encoding": info.encoding,
        "width": info.width,
        "height": info.height,
        "student": student,
        "input": {**snapshot.input, "note": snapshot.input_note},
        "events": counters.get("events", 0),
        "event_account": account.to_dict(),
        "windows": counters.get("windows_done", 0),
        "windows_dropped": counters.get("windows_dropped", 0),
        "windows_skipped": counters.get("windows_skipped", 0),
        "seq_gaps": counters.get("stream_seq_gaps", 0),
        "found": found.to_dict(),
        "pictures": None if pictures is None else asdict(pictures),
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in files],
        "latency_ms": snapshot.latency_ms["total"].to_dict(),
        "stages_ms": {
            stage: snapshot.latency_ms[stage].to_dict() for stage in STAGES if stage != "total"
        },
        "counters": counters,
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
        "sensor_s": round(sensor_s, 6),
        "wall_s": round(seconds, 2),
    }

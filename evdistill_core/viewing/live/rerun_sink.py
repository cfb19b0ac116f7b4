"""Windows for Rerun: a recording (.rrd), a viewer that runs, or one that is started.

Entities:

* ``camera/events``: picture of the events, PNG; ``camera/image``: the camera's image, JPEG.
* ``camera/mask``: ``SegmentationImage`` of class ids; 255 is unlabelled.
* ``camera/boxes``: ``Boxes2D`` in sensor pixels, with class, track id and score as labels.
* ``guesses``: of a student of recognition.
* ``numbers/...``: event rate, windows and dropped windows, latency.

Timelines: ``sensor_time`` (the window's end), ``host_time`` and ``window``.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evdistill_core.drawing.colours import Image, event_picture
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.inference.prediction import Detection, Prediction
from evdistill_core.viewing.live.address import LOOPBACK, ViewAddress, ViewError
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status

PORT = 9876
"""Where a Rerun viewer listens unless told otherwise."""
SPAWN_S = 15.0
CONNECT_S = 3.0
_SUFFIX = ".rrd"


@dataclass(frozen=True)
class RerunTarget:
    """Where windows for Rerun go.

    Attributes:
        path: recording to write; None: to a viewer.
        address: of the viewer.
        starts_viewer: start it there first.
    """

    path: Path | None = None
    address: ViewAddress = field(default_factory=lambda: ViewAddress(LOOPBACK, PORT))
    starts_viewer: bool = False

    @staticmethod
    def parse(text: str) -> RerunTarget:
        """Read what a user wrote; empty: start a viewer.

        Raises:
            ConfigError: neither the name of a recording nor an address.
        """
        text = text.strip()
        if not text:
            return RerunTarget(starts_viewer=True)
        if text.endswith(_SUFFIX):
            return RerunTarget(Path(text))
        try:
            address = ViewAddress.parse(text)
        except ConfigError:
            address = None
        # Without a port it may be a file with the wrong ending.
        if address is None or not address.is_chosen or address.port == 0:
            raise ConfigError(
                f"--rerun takes FILE.rrd, HOST:PORT of a viewer such as {LOOPBACK}:{PORT}, or "
                f"nothing to start one, got {text!r}"
            )
        return RerunTarget(address=address)

    def __str__(self) -> str:
        return str(self.address if self.path is None else self.path)


class RerunSink:
    """Sends windows to Rerun.

    Args:
        target: where.
        title: of the recording, such as the source of the events.
        classes: of the student; None: there are none.

    Raises:
        ModuleNotFoundError: rerun-sdk is not installed.
        ViewError: the viewer cannot be started or reached, or the file cannot be written.
    """

    name = "rerun"
    is_watched = True

    def __init__(self, target: RerunTarget, *, title: str, classes: ClassTable | None) -> None:
        # It comes with an extra, and takes a second to load.
        import rerun  # noqa: PLC0415

        self._rerun: Any = rerun
        self._classes = classes
        self.where = str(target)
        self._stream: Any = rerun.RecordingStream("evdistill")
        try:
            self._open(target)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = "start its viewer" if target.starts_viewer else f"use {target}"
            raise ViewError(f"rerun cannot {what}: {reason}") from error
        self._stream.send_recording_name(f"evdistill {title}")
        if classes is not None:
            self._log("camera", self._class_table(classes), static=True)

    def _open(self, target: RerunTarget) -> None:
        layout = self._layout()
        if target.path is not None:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream.save(target.path, default_blueprint=layout)
            return
        host, port = target.address.host, target.address.port
        if target.starts_viewer:
            rr = self._rerun
            rr.spawn(port=port, connect=False, executable_path=_viewer(), recording=self._stream)
            if not _listens(host, port, SPAWN_S):
                raise ViewError(
                    f"the Rerun viewer did not start within {SPAWN_S:g} s; it needs a display: "
                    "write a file with --rerun=FILE.rrd, or name the viewer of another machine"
                )
        elif not _listens(host, port, CONNECT_S):
            raise ViewError(
                f"no Rerun viewer listens at {target.address}: start `rerun` there, or write a "
                "file with --rerun=FILE.rrd"
            )
        url = f"rerun+http://{target.address}/proxy"
        self._stream.connect_grpc(url, default_blueprint=layout)

    def show(self, shot: Shot, status: Status, dropped: int) -> None:
        """Log one window at its times."""
        rr, stream = self._rerun, self._stream
        stream.set_time("sensor_time", duration=np.timedelta64(shot.t_end_us, "us"))
        stream.set_time("host_time", timestamp=np.datetime64(shot.stamp_ns, "ns"))
        stream.set_time("window", sequence=shot.index)
        image = shot.camera_image()
        if image is not None:
            self._log("camera/image", self._encoded(image, "jpeg", draw_order=-30))
        self._log("camera/events", self._encoded(event_picture(shot.events), "png", draw_order=-20))
        if isinstance(shot.answer, Prediction):
            mask = rr.SegmentationImage(shot.answer.mask, opacity=0.5, draw_order=-10)
            self._log("camera/mask", mask)
            self._log("camera/boxes", self._boxes(shot.answer.detections))
        elif shot.answer is not None:
            lines = [
                f"{self._class_name(g.class_id)} {100 * g.score:.0f} %" for g in shot.answer.guesses
            ]
            self._log("guesses", rr.TextDocument("\n".join(lines)))
        for name, value in numbers(shot, status, dropped).items():
            self._log(f"numbers/{name}", rr.Scalars(value))

    def close(self, timeout_s: float) -> None:
        """Send what is held, and close file or connection."""
        self._stream.flush(timeout_sec=timeout_s)
        self._stream.disconnect()

    def _log(self, entity: str, what: object, *, static: bool = False) -> None:
        # Strict: what cannot be logged ends the feed with a line, instead of a warning each window.
        self._stream.log(entity, what, static=static, strict=True)

    def _encoded(self, image_bgr: Image, kind: str, *, draw_order: float) -> object:
        _, data = cv2.imencode(f".{kind}", image_bgr)
        return self._rerun.EncodedImage(
            contents=data.tobytes(), media_type=f"image/{kind}", draw_order=draw_order
        )

    def _boxes(self, detections: tuple[Detection, ...]) -> object:
        rr = self._rerun
        return rr.Boxes2D(
            array=np.array([d.box_xyxy for d in detections], np.float32).reshape(-1, 4),
            array_format=rr.Box2DFormat.XYXY,
            labels=[label_of(d, self._class_name(d.class_id)) for d in detections],
            class_ids=[d.class_id for d in detections],
        )

    def _class_table(self, classes: ClassTable) -> object:
        rr = self._rerun
        rows = [rr.AnnotationInfo(i, c.name, c.color_rgb) for i, c in enumerate(classes.classes)]
        return rr.AnnotationContext([*rows, rr.AnnotationInfo(IGNORE, "unlabelled", (0, 0, 0, 0))])

    def _class_name(self, class_id: int) -> str:
        classes = self._classes
        return f"class {class_id}" if classes is None else classes.names[class_id]

    def _layout(self) -> object:
        from rerun import blueprint as rrb  # noqa: PLC0415

        charts = [
            rrb.TimeSeriesView(origin=f"numbers/{name}", name=name)
            for name in ("events_per_s", "windows_dropped", "latency_ms")
        ]
        picture = rrb.Spatial2DView(origin="camera", name="camera")
        return rrb.Blueprint(rrb.Horizontal(picture, rrb.Vertical(*charts), column_shares=[3, 1]))


def numbers(shot: Shot, status: Status, dropped: int) -> dict[str, float]:
    """Return the numbers of a window by name and unit; what is not known is left out."""
    found = {
        "events_per_s": status.events_per_s,
        "windows_per_s": status.windows_per_s,
        "windows_dropped": status.dropped,
        "viewer_dropped": dropped,
        "latency_ms": shot.latency_ms,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def label_of(detection: Detection, class_name: str) -> str:
    """Return class, id of the track (if it is tracked) and score, as the pictures have it."""
    track = f" {detection.track_id}" if detection.track_id else ""
    return f"{class_name}{track} {100 * detection.score:.0f} %"


def _viewer() -> str | None:
    """Return the viewer inside the package, which need not be on PATH; None: look there."""
    found = find_spec("rerun_cli")
    folders = () if found is None else found.submodule_search_locations or ()
    paths = [Path(folder) / "rerun" for folder in folders]
    return next((str(path) for path in paths if path.is_file()), None)


def _listens(host: str, port: int, timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError:
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.1)
        else:
            return True

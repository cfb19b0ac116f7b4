"""Windows for Foxglove: a WebSocket server that the app opens.

Channels; nothing is made for one to which nobody has subscribed:

* ``/events``, ``/mask``, ``/overlay``, ``/image``: ``foxglove.CompressedImage``.
* ``/detections``: ``foxglove.ImageAnnotations`` in sensor pixels.
* ``/statistics``: JSON.

Stamps are host time of the window's end, as in the headers of the topics; sensor time is in the
statistics.
"""

from __future__ import annotations

from typing import Any

import cv2

from evdistill_core.drawing.colours import Image, color_mask, event_picture
from evdistill_core.drawing.overlay import overlay
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.prediction import Detection, Prediction
from evdistill_core.viewing.live.address import ViewAddress, ViewError
from evdistill_core.viewing.live.frames import Shot
from evdistill_core.viewing.live.live_view import Status
from evdistill_core.viewing.live.rerun_sink import label_of, numbers

BACKLOG = 32
"""Messages that wait for one app; the library drops the oldest ones of an app that is slow."""
FRAME_ID = "event_camera"
STATISTICS_SCHEMA = {
    "type": "object",
    "title": "evdistill.Statistics",
    "properties": {
        "window": {"type": "integer"},
        "t_start_us": {"type": "integer"},
        "t_end_us": {"type": "integer"},
        "events": {"type": "integer"},
        "events_per_s": {"type": "number"},
        "windows_per_s": {"type": "number"},
        "windows_dropped": {"type": "number"},
        "viewer_dropped": {"type": "number"},
        "latency_ms": {"type": "number"},
        "guesses": {"type": "array", "items": {"type": "object"}},
    },
}


def parse_foxglove(text: str) -> ViewAddress:
    """Read what a user wrote after --foxglove; empty: 127.0.0.1:8765.

    Raises:
        ConfigError: another form, or a port out of range.
    """
    try:
        return ViewAddress.parse(text)
    except ConfigError as error:
        raise ConfigError(f"--foxglove: {error}") from error


class FoxgloveSink:
    """Serves windows to the Foxglove app.

    Args:
        address: where; port 0 is any that is free.
        title: what the app calls the connection.
        classes: of the student; None: there are none.

    Raises:
        ModuleNotFoundError: foxglove-sdk is not installed.
        ViewError: the address cannot be served.
    """

    name = "foxglove"

    def __init__(self, address: ViewAddress, *, title: str, classes: ClassTable | None) -> None:
        # It comes with an extra.
        import foxglove  # noqa: PLC0415
        from foxglove import channels, messages  # noqa: PLC0415

        self._messages: Any = messages
        self._classes = classes
        # Kept: channels of a context that is gone are not announced.
        self._context: Any = foxglove.Context()
        context = self._context
        try:
            self._server: Any = foxglove.start_server(
                name=f"evdistill {title}",
                host=address.host,
                port=address.port,
                context=context,
                message_backlog_size=BACKLOG,
            )
        except (OSError, RuntimeError) as error:
            raise ViewError(
                f"--foxglove cannot serve at {address}: {error}; choose another address, such as "
                "--foxglove :8770"
            ) from error
        self.where = f"ws://{ViewAddress(address.host, self._server.port)}"
        self._images: dict[str, Any] = {
            topic: channels.CompressedImageChannel(topic, context=context)
            for topic in ("/events", "/mask", "/overlay", "/image")
        }
        self._boxes: Any = channels.ImageAnnotationsChannel("/detections", context=context)
        self._statistics: Any = foxglove.Channel(
            "/statistics", schema=STATISTICS_SCHEMA, context=context
        )
        self._channels = (*self._images.values(), self._boxes, self._statistics)

    @property
    def is_watched(self) -> bool:
        """Whether anybody has subscribed to anything."""
        return any(channel.has_sinks() for channel in self._channels)

    def show(self, shot: Shot, status: Status, dropped: int) -> None:
        """Send one window to those who have subscribed."""
        self._show_images(shot)
        answer, stamp = shot.answer, self._stamp(shot)
        if self._boxes.has_sinks() and isinstance(answer, Prediction):
            frames = [self._frame(d, stamp) for d in answer.detections]
            texts = [self._text(d, stamp) for d in answer.detections]
            annotations = self._messages.ImageAnnotations(
                timestamp=stamp, points=frames, texts=texts
            )
            self._boxes.log(annotations, log_time=shot.stamp_ns)
        if self._statistics.has_sinks():
            self._statistics.log(self._numbers(shot, status, dropped), log_time=shot.stamp_ns)

    def close(self, timeout_s: float) -> None:
        """Close the connections and the port."""
        del timeout_s
        self._server.stop()

    def _show_images(self, shot: Shot) -> None:
        answer, classes = shot.answer, self._classes
        wanted = {topic for topic, channel in self._images.items() if channel.has_sinks()}
        if "/events" in wanted:
            self._send("/events", event_picture(shot.events), "png", shot)
        camera_image = shot.camera_image() if wanted & {"/image", "/overlay"} else None
        if "/image" in wanted and camera_image is not None:
            self._send("/image", camera_image, "jpeg", shot)
        if not isinstance(answer, Prediction) or classes is None:
            return
        if "/mask" in wanted:
            self._send("/mask", color_mask(answer.mask, classes), "png", shot)
        if "/overlay" in wanted:
            below = event_picture(shot.events) if camera_image is None else camera_image
            picture = overlay(below, answer, classes, events=shot.events)
            self._send("/overlay", picture, "jpeg", shot)

    def _send(self, topic: str, image_bgr: Image, kind: str, shot: Shot) -> None:
        _, data = cv2.imencode(f".{kind}", image_bgr)
        message = self._messages.CompressedImage(
            timestamp=self._stamp(shot), frame_id=FRAME_ID, data=data.tobytes(), format=kind
        )
        self._images[topic].log(message, log_time=shot.stamp_ns)

    def _stamp(self, shot: Shot) -> Any:
        seconds, nanoseconds = divmod(shot.stamp_ns, 1_000_000_000)
        return self._messages.Timestamp(seconds, nanoseconds)

    def _frame(self, detection: Detection, stamp: Any) -> Any:
        messages = self._messages
        left, top, right, bottom = map(float, detection.box_xyxy)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return messages.PointsAnnotation(
            timestamp=stamp,
            type=messages.PointsAnnotationType.LineLoop,
            points=[messages.Point2(x=x, y=y) for x, y in corners],
            outline_color=self._color(detection.class_id),
            thickness=2.0,
        )

    def _text(self, detection: Detection, stamp: Any) -> Any:
        messages = self._messages
        left, top = map(float, detection.box_xyxy[:2])
        return messages.TextAnnotation(
            timestamp=stamp,
            position=messages.Point2(x=left, y=top),
            text=label_of(detection, self._class_name(detection.class_id)),
            font_size=12.0,
            text_color=messages.Color(r=1.0, g=1.0, b=1.0, a=1.0),
            background_color=messages.Color(r=0.0, g=0.0, b=0.0, a=0.6),
        )

    def _color(self, class_id: int) -> Any:
        rgb = (
            (255, 255, 255) if self._classes is None else self._classes.classes[class_id].color_rgb
        )
        red, green, blue = (value / 255 for value in rgb)
        return self._messages.Color(r=red, g=green, b=blue, a=1.0)

    def _class_name(self, class_id: int) -> str:
        return f"class {class_id}" if self._classes is None else self._classes.names[class_id]

    def _numbers(self, shot: Shot, status: Status, dropped: int) -> dict[str, object]:
        found: dict[str, object] = {
            "window": shot.index,
            "t_start_us": shot.t_start_us,
            "t_end_us": shot.t_end_us,
            "events": len(shot.events),
        }
        if shot.answer is not None and not isinstance(shot.answer, Prediction):
            found["guesses"] = [
                {"class": self._class_name(g.class_id), "score": round(g.score, 4)}
                for g in shot.answer.guesses
            ]
        return found | numbers(shot, status, dropped)

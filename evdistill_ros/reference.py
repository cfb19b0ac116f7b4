"""Topics and diagnostics as tables for the documentation, made from what the code declares."""

from __future__ import annotations

import inspect
import re

from evdistill_core.events.filters.chain import FilterCounters
from evdistill_core.events.stream import StreamCounters
from evdistill_core.events.window import WindowCounters
from evdistill_core.messages.event_messages import EVENT_ARRAY_TYPES, EVENT_PACKET_TYPES
from evdistill_core.messages.standard import CameraInfo, CompressedImage, DiagnosticArray, Image
from evdistill_core.messages.vision import LabelInfo
from evdistill_core.perception.messages import COMPRESSED, LABEL_INFO
from evdistill_core.perception.pipeline import STAGES
from evdistill_core.perception.tasks import SEGMENTATION, PerceptionTask
from evdistill_ros import qos
from evdistill_ros.qos import QosProfile

RESULT_TEXTS = {
    "classification": "the likeliest classes, best first; `class_id` is the number in "
    "`label_info`; no results where nothing can be said",
    "mask": "mono8: class id; 255 is unlabelled; `mask_size` says at which resolution",
    "detections": "boxes of vehicles and humans; `id` stays from window to window, `class_id` is "
    "the number in `label_info`",
    "confidence": "32FC1: probability of the class; 0 where unlabelled; as large as `mask`",
    "mask_color": "bgr8: the mask in the colours of its classes; as large as `mask`",
    "camera_info": "the calibration with the header of the other results, scaled to the size of "
    "the events' frame; not sent while none is known",
}

COMPRESSED_TEXTS = {
    "mask" + COMPRESSED: "the same as PNG, without loss; a few kB",
    "overlay" + COMPRESSED: "the same as JPEG; 1280x720: about 0.2 MB instead of 2.8",
}

OVERLAY_TEXTS = {
    "segmentation": "bgr8, for people: mask, events (yellow brighter, blue darker) and boxes over "
    "the camera's image, else over a dark ground, with a legend below. Sensors of up to 400 pixels "
    "a side are enlarged by a whole factor, to at most 800",
    "recognition": "bgr8, for people: the classes and their scores written over the events, on the "
    "camera's image or a dark ground, with a legend of the events below. Sensors of up to 400 "
    "pixels a side are enlarged by a whole factor, to at most 800",
}

PIPELINE_VALUES = {
    "sensor": "width and height of the camera, pixels",
    "events_per_s": "decoded, in the last period",
    "messages_per_s": "received, in the last period",
    "windows_per_s": "published, in the last period",
    "queue_packets": "packets that wait to be decoded",
    "queue_bytes": "their bytes",
    "events": "decoded since activation",
    "messages_received": "taken from the topic",
    "messages_used": "decoded",
    "messages_damaged": "no message of their type, or of no known encoding: dropped",
    "messages_lost_queue": "thrown away because the queue was full",
    "messages_discarded": "thrown away at deactivation or at a jump of `/clock`",
    "queue_overflows": "times that the queue was full",
    "breaks_clock": "windows restarted: `/clock` jumped",
    "breaks_reset": "windows restarted: asked for by `~/reset`, or switched by `~/enable`",
    "breaks_time": "windows restarted: sensor time jumped",
    "breaks_pause": "windows restarted: sensor time stood still while the host's went on",
    "breaks_size": "windows restarted: another frame size",
    "breaks_encoding": "windows restarted: another encoding",
    "breaks_seq": "windows restarted: `seq` was not the next one",
    "breaks_queue": "windows restarted: packets were lost in our queue",
    "windows": "closed and handed to the network",
    "windows_done": "published",
    "windows_dropped": "not computed because a newer one came first",
    "windows_discarded": "not computed because the node was deactivated",
    "events_in_windows": "events that were in at least one window that was not skipped",
    "events_in_dropped_windows": "events of the windows that were dropped or discarded",
    "windows_skipped": "not computed because of `max_rate_hz`",
    "state_resets": "breaks after which a recurrent student restarted",
    "student": "file name of the student, and what runs it",
    "messages_lost_dds": "lost before they came here, as far as DDS noticed (full buffers); "
    "`stream_lost_messages` counts every loss that `seq` shows",
    "messages_while_off": "left out because `~/enable` has switched the node off",
    "rss_mb": "resident memory, MB of 1e6 bytes",
    "gpu_memory_mb": "reserved by torch on the GPU, where one is used",
    "damaged_images": "of `~/image`: damaged, or of no encoding that we read",
    "damaged_camera_infos": "of `~/camera_info_in`: not readable",
    "input_seen": "size of the part of the sensor that the student sees, pixels",
    "input_factor": "sensor pixels per pixel of the network's input and axis; 1: full resolution",
    "input_network": "size of the network's input, pixels",
    "input_tiles": "columns and rows of the parts that are computed one after the other",
    "input_max_pixels": "limit on the size of the input that is in force",
    "input_measured_ms": "time of the network at that size, where it was measured",
}
_COUNTERS = {"stream": StreamCounters, "filter": FilterCounters, "window": WindowCounters}


def topics_table(task: PerceptionTask = SEGMENTATION) -> str:
    """Return the topics of a task's node as a Markdown table."""
    rows = [
        (
            "`~/events` (in)",
            ", ".join(f"`{t}`" for t in (*EVENT_PACKET_TYPES, *EVENT_ARRAY_TYPES)),
            qos.EVENTS,
            "events; the type is found by the topic",
        ),
        (
            "`~/image` (in)",
            f"`{Image.TYPE}` or `{CompressedImage.TYPE}`",
            qos.SENSOR_DATA,
            "images of the same camera, background of the overlay; the type is found by the topic, "
            "and `~/image/compressed` is taken where nobody publishes `~/image`",
        ),
        (
            "`~/camera_info_in` (in)",
            f"`{CameraInfo.TYPE}`",
            qos.SENSOR_DATA,
            "calibration of the same camera, unless `camera_info_url` names a file",
        ),
    ]
    texts = RESULT_TEXTS | {"overlay": OVERLAY_TEXTS[task.name]} | COMPRESSED_TEXTS
    rows += [
        (f"`~/{name}`", f"`{kind}`", qos.RESULTS, texts[name]) for name, kind in task.topics.items()
    ]
    rows += [
        (f"`~/{LABEL_INFO}`", f"`{LabelInfo.TYPE}`", qos.LATCHED, "names of the classes"),
        (
            "`/diagnostics`",
            f"`{DiagnosticArray.TYPE}`",
            qos.DIAGNOSTICS,
            "every `diagnostics_period_ms`",
        ),
    ]
    lines = ["| topic | type | QoS | what |", "|---|---|---|---|"]
    lines += [f"| {name} | {kind} | {_words(p)} | {text} |" for name, kind, p, text in rows]
    return "\n".join(lines) + "\n"


def diagnostics_values() -> dict[str, str]:
    """Return every value that diagnostics may hold, with its meaning."""
    values = dict(PIPELINE_VALUES)
    for prefix, counters in _COUNTERS.items():
        values |= {f"{prefix}_{k}": v for k, v in _attributes(counters).items()}
    for stage in (*STAGES, "age"):
        what = "publishing less the result's stamp" if stage == "age" else f"stage `{stage}`"
        for name in ("p50", "p95", "p99", "max", "count"):
            values[f"{stage}_ms_{name}"] = f"{what}, latest windows"
    return values


def diagnostics_table() -> str:
    """Return the values of the diagnostics as a Markdown table, percentiles in one row."""
    lines = ["| value | meaning |", "|---|---|"]
    lines += [f"| `{k}` | {v} |" for k, v in diagnostics_values().items() if "_ms_" not in k]
    stages = ", ".join(f"`{s}`" for s in STAGES)
    lines.append(f"| `STAGE_ms_p50`, `_p95`, `_p99` | milliseconds; stages: {stages} |")
    lines.append("| `age_ms_p50`, `_p95`, `_p99` | publishing less the result's stamp |")
    return "\n".join(lines) + "\n"


def _words(profile: QosProfile) -> str:
    durability = ", transient local" if profile.durability == "transient_local" else ""
    return f"{profile.reliability.replace('_', ' ')}{durability}, depth {profile.depth}"


def _attributes(counters: type) -> dict[str, str]:
    """Return the Attributes of a docstring: name to text."""
    text = (inspect.getdoc(counters) or "").split("Attributes:", 1)[1]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).rstrip(".") for name, words in found}

"""Every parameter of the segmentation front ends, declared once.

One field of ``SegmentationParameters`` is one ROS parameter: its default, range, unit, meaning,
and whether it may change while running stand together. The rclpy node, the DDS front end,
``evdistill run`` and the table in the documentation all read them from here.
"""

# ruff: noqa: RUF009 - _p() is field() with a declaration in it
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evdistill_core.events.filters import FilterConfig
from evdistill_core.events.filters.chain import load_hot_pixels
from evdistill_core.events.window import WindowSpec
from evdistill_core.foundation.config import from_mapping, load_yaml
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.postprocess import PostprocessConfig
from evdistill_core.inference.runner import Device, Precision, Runtime
from evdistill_core.representations.spec import InputSpec

NODE_NAME = "segmentation"
ROS_ONLY = ("use_sim_time", "autostart", "qos_overrides", "start_type_description_service")
"""Parameters that only rclpy nodes have; a shared file may hold them, as `ros2 param dump` does."""


@dataclass(frozen=True)
class Declaration:
    """What a user must know of one parameter besides its default.

    Attributes:
        text: what it does, one sentence.
        unit: of the value, ``""`` for none.
        low: smallest value allowed, for numbers.
        high: largest value allowed, for numbers.
        choices: the values allowed, for texts.
        dynamic: may change while the node runs.
    """

    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False


def _p(default: Any, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"declaration": Declaration(text, **more)})


@dataclass(frozen=True, kw_only=True)
class SegmentationParameters:
    """Parameters of the segmentation node, in the order of ``config/seg.yaml``.

    The fields are described by their declarations, see ``declarations``.
    """

    student: str = _p("", "Student file; empty: the one that comes with the package.")
    runtime: Runtime = _p(
        "auto", "What runs the network.", choices=("auto", "onnxruntime", "torch")
    )
    device: Device = _p("auto", "Where it runs.", choices=("auto", "cpu", "cuda"))
    precision: Precision = _p(
        "auto", "Arithmetic of the network.", choices=("auto", "fp32", "fp16", "bf16")
    )
    threads: int = _p(
        0,
        "Threads of the network on the CPU; 0: one (the others decode and publish).",
        low=0,
        high=256,
    )

    window_us: int = _p(
        0, "Length of a window in sensor time; 0: the student's own.", unit="us", low=0,
        high=10_000_000, dynamic=True,
    )  # fmt: skip
    window_count: int = _p(
        0, "A window also ends after this many events; 0: as the student says.", unit="events",
        low=0, high=100_000_000, dynamic=True,
    )  # fmt: skip
    stride_us: int = _p(
        0, "Time from window to window; below window_us they overlap; 0: no overlap.", unit="us",
        low=0, high=10_000_000, dynamic=True,
    )  # fmt: skip
    deadline_ms: float = _p(
        25.0, "A window of a camera that went quiet is closed this long after its end; 0: never.",
        unit="ms", low=0, high=10_000, dynamic=True,
    )  # fmt: skip

    max_rate_hz: float = _p(
        0.0, "More windows in a second of sensor time are skipped, counted; 0: none are.",
        unit="Hz", low=0, high=1000, dynamic=True,
    )  # fmt: skip

    hot_pixels_file: str = _p(
        "", "List of hot pixels to drop (see evdistill hot-pixels); empty: none is given."
    )
    hot_pixels_learn_ms: int = _p(
        0, "Hot pixels are learned from this much sensor time at the start; 0: not learned.",
        unit="ms", low=0, high=600_000, dynamic=True,
    )  # fmt: skip
    hot_pixels_min_hz: float = _p(
        50.0, "Slower pixels are never learned to be hot.", unit="Hz", low=0, high=1e6,
        dynamic=True,
    )  # fmt: skip
    hot_pixels_ratio: float = _p(
        10.0, "Hot pixels fire more than so many times as often as those around them.", low=1,
        high=1e6, dynamic=True,
    )  # fmt: skip
    refractory_us: int = _p(
        0, "Events closer than this to the last one kept at their pixel are dropped; 0: none.",
        unit="us", low=0, high=10_000_000, dynamic=True,
    )  # fmt: skip
    background_us: int = _p(
        0, "Events are dropped if none of the 8 pixels around fired in this time before; 0: none.",
        unit="us", low=0, high=10_000_000, dynamic=True,
    )  # fmt: skip
    max_events_per_s: int = _p(
        0, "More events are thinned evenly to this rate, in slices of 10 ms; 0: no limit.",
        unit="1/s", low=0, high=1_000_000_000, dynamic=True,
    )  # fmt: skip

    unlabelled_radius_px: int = _p(
        3, "Pixels with no event in the square of this radius are 255 (unlabelled); -1: none are.",
        unit="px", low=-1, high=64, dynamic=True,
    )  # fmt: skip
    min_neighbours: int = _p(
        1, "An event counts only if so many of the 8 pixels around it fired too (noise is alone).",
        unit="px", low=0, high=8, dynamic=True,
    )  # fmt: skip
    closing_px: int = _p(
        3, "Gaps up to twice this wide between labelled regions are filled.", unit="px", low=0,
        high=32, dynamic=True,
    )  # fmt: skip
    join_px: int = _p(
        4,
        "Parts of things up to twice this far apart are one detection.",
        unit="px",
        low=0,
        high=32,
        dynamic=True,
    )
    min_area_px: int = _p(
        60, "Smaller components are no detections.", unit="px", low=1, high=1 << 24, dynamic=True
    )
    min_score: float = _p(
        0.4, "Components with a lower score are no new detections.", low=0, high=1, dynamic=True
    )
    keep_score: float = _p(
        0.3, "Score that is enough for one that goes on with an id.", low=0, high=1, dynamic=True
    )
    track_min_iou: float = _p(
        0.2, "Overlap from window to window that keeps a detection's id.", low=0, high=1,
        dynamic=True,
    )  # fmt: skip
    track_max_missed: int = _p(
        4, "Windows that an id survives unseen.", unit="windows", low=0, high=1000, dynamic=True
    )

    overlay_alpha: float = _p(
        0.5, "Weight of the colour in the overlay.", low=0, high=1, dynamic=True
    )
    frame_id: str = _p("", "frame_id of the results; empty: that of the events.", dynamic=True)

    camera_info_url: str = _p(
        "", "Calibration of the event camera (file://, package://); empty: from ~/camera_info_in."
    )
    publish_detections: bool = _p(True, "Make ~/detections when somebody listens.", dynamic=True)
    publish_confidence: bool = _p(True, "Make ~/confidence when somebody listens.", dynamic=True)
    publish_mask_color: bool = _p(True, "Make ~/mask_color when somebody listens.", dynamic=True)
    publish_overlay: bool = _p(True, "Make ~/overlay when somebody listens.", dynamic=True)

    queue_packets: int = _p(
        2000, "Packets waiting to be decoded; more are a counted loss.", unit="packets", low=1,
        high=1_000_000,
    )  # fmt: skip
    queue_bytes: int = _p(
        64_000_000, "Bytes waiting to be decoded; more are a counted loss.", unit="bytes",
        low=1_000_000, high=1 << 34,
    )  # fmt: skip
    keep_windows: bool = _p(
        False, "Compute every window, however late (replay); packets then wait in the queue."
    )
    stall_warn_ms: int = _p(
        1000, "Silence of the event topic that diagnostics call WARN.", unit="ms", low=10,
        high=3_600_000, dynamic=True,
    )  # fmt: skip
    stall_error_ms: int = _p(
        5000, "Silence of the event topic that diagnostics call ERROR.", unit="ms", low=10,
        high=3_600_000, dynamic=True,
    )  # fmt: skip
    diagnostics_period_ms: int = _p(
        1000, "Time between two diagnostics messages.", unit="ms", low=100, high=60_000
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        for name, declaration in declarations().items():
            _check(name, getattr(self, name), declaration)
        if self.stall_error_ms < self.stall_warn_ms:
            raise ConfigError(
                f"stall_error_ms must not be below stall_warn_ms ({self.stall_warn_ms}), "
                f"got {self.stall_error_ms}"
            )

    def postprocess(self) -> PostprocessConfig:
        """Return the part that makes masks from logits."""
        names = [f.name for f in dataclasses.fields(PostprocessConfig)]
        return PostprocessConfig(**{name: getattr(self, name) for name in names})

    def filter_config(self) -> FilterConfig:
        """Return which events are dropped before windows are cut.

        Raises:
            ConfigError: the list of hot pixels cannot be read.
        """
        return FilterConfig(
            hot_pixels=load_hot_pixels(self.hot_pixels_file),
            hot_learn_ms=self.hot_pixels_learn_ms,
            hot_min_hz=self.hot_pixels_min_hz,
            hot_ratio=self.hot_pixels_ratio,
            refractory_us=self.refractory_us,
            background_us=self.background_us,
            max_events_per_s=self.max_events_per_s,
        )

    def window_spec(self, spec: InputSpec) -> WindowSpec:
        """Return how events are cut into windows; what is 0 here comes from the student."""
        count = self.window_count or spec.window_count
        return WindowSpec(
            duration_us=self.window_us or spec.window_us,
            count=count,
            stride_us=self.stride_us or None,
            deadline_ms=self.deadline_ms or None,
        )


def declarations() -> dict[str, Declaration]:
    """Return the declaration of every parameter by name, in order."""
    return {f.name: f.metadata["declaration"] for f in dataclasses.fields(SegmentationParameters)}


def defaults() -> dict[str, object]:
    """Return the default of every parameter by name, in order."""
    return {f.name: f.default for f in dataclasses.fields(SegmentationParameters)}


def load_parameters(
    path: Path | None, overrides: Mapping[str, object] | None = None, *, node: str = NODE_NAME
) -> SegmentationParameters:
    """Read a ROS parameter file.

    Sections are taken as ROS takes them: those of ``/**`` first, then those named for the node,
    with or without namespace; later ones win. those of ``ROS_ONLY`` are left out.

    Args:
        path: the file; ``None`` gives the defaults.
        overrides: values that win over the file's.
        node: name of the node.

    Raises:
        ConfigError: unreadable, no parameter file, an unknown parameter, or a refused value.
    """
    values: dict[str, object] = {}
    if path is not None:
        values = _parameters_of(load_yaml(path), node, path)
        for name in ROS_ONLY:
            values.pop(name, None)
    values.update(overrides or {})
    unknown = sorted(set(values) - set(declarations()))
    if unknown:
        where = f" in {path}" if path is not None else ""
        raise ConfigError(
            f"unknown parameter {', '.join(unknown)}{where}; "
            f"parameters are: {', '.join(declarations())}"
        )
    return from_mapping(SegmentationParameters, values)


def wants_sim_time(path: Path | None, *, node: str = NODE_NAME) -> bool:
    """Tell whether a ROS parameter file asks for the time of ``/clock``.

    Raises:
        ConfigError: as ``load_parameters``, or ``use_sim_time`` is no truth value.
    """
    value = (
        False
        if path is None
        else _parameters_of(load_yaml(path), node, path).get("use_sim_time", False)
    )
    if not isinstance(value, bool):
        raise ConfigError(f"use_sim_time must be true or false, got {value!r}")
    return value


def parse_assignments(texts: Sequence[str]) -> dict[str, object]:
    """Return parameters given as ``NAME:=VALUE``, the value read as YAML (as ROS does).

    Raises:
        ConfigError: a text has another form.
    """
    values: dict[str, object] = {}
    for text in texts:
        name, separator, value = text.partition(":=")
        if not separator or not name:
            raise ConfigError(f"a parameter is given as NAME:=VALUE, got {text!r}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {name} is not valid YAML: {value!r}") from error
        if values[name] is None:
            values[name] = ""
    return values


def markdown_table() -> str:
    """Return the parameters as a table for the documentation."""
    lines = [
        "| parameter | default | unit | range | dynamic | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for name, d in declarations().items():
        default = defaults()[name]
        shown = '`""`' if default == "" else f"`{_as_yaml(default)}`"
        limits = ", ".join(d.choices) if d.choices else ""
        if d.low is not None:
            limits = f"{d.low:g} .. {d.high:g}"
        changes = "yes" if d.dynamic else "no"
        lines.append(f"| `{name}` | {shown} | {d.unit} | {limits} | {changes} | {d.text} |")
    return "\n".join(lines) + "\n"


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(name: str, value: Any, declaration: Declaration) -> None:
    low, high = declaration.low, declaration.high
    if low is not None and high is not None and not low <= value <= high:
        unit = f" {declaration.unit}" if declaration.unit else ""
        raise ConfigError(f"{name} must lie in {low:g}..{high:g}{unit}, got {value}")
    if declaration.choices and value not in declaration.choices:
        raise ConfigError(f"{name} must be one of {', '.join(declaration.choices)}, got {value!r}")


def _parameters_of(content: Mapping[str, object], node: str, path: Path) -> dict[str, object]:
    values: dict[str, object] = {}
    found = False
    for section, body in content.items():
        name = section.rsplit("/", 1)[-1]
        if section == "/**" or name in {node, "*", "**"}:
            if not isinstance(body, Mapping) or not isinstance(
                body.get("ros__parameters"), Mapping | None
            ):
                raise ConfigError(
                    f"section {section} of {path} must hold a mapping ros__parameters"
                )
            values.update(body.get("ros__parameters") or {})
            found = True
    if content and not found:
        raise ConfigError(
            f"{path} has no parameters for the node {node}: expected a section /** or {node} with "
            f"ros__parameters below it, found {', '.join(map(str, content))}"
        )
    return values

"""Every parameter of the front ends, declared once.

One field is one ROS parameter: its default, range, unit, meaning, and whether it may change while
running stand together. Where a part that works without ROS has the same number, default and range
are taken from there. ``PerceptionParameters`` has what every task needs, one class for each task
adds its own. The rclpy nodes, the DDS front end, ``evdistill run`` and the tables in the
documentation all read them from here.
"""

# ruff: noqa: RUF009 - _p() is field() with a declaration in it
from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from evdistill_core.events.filters import FilterConfig
from evdistill_core.events.filters.chain import load_hot_pixels
from evdistill_core.events.window import WindowSpec
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.plugins import Registry
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.inference.postprocess import HowApart, PostprocessConfig, Postprocessor
from evdistill_core.inference.prediction import Interpreter
from evdistill_core.inference.ranking import Ranker, RankingConfig
from evdistill_core.inference.runner import Device, Precision, Runner
from evdistill_core.inference.runtimes import RUNTIMES
from evdistill_core.models.task_name import TaskName
from evdistill_core.perception.view import View
from evdistill_core.perception.working_size import WorkingSize, working_size
from evdistill_core.representations.spec import InputSpec

MaskSize = Literal["sensor", "network"]


@dataclass(frozen=True)
class Declaration:
    """What a user must know of one parameter besides its default.

    Attributes:
        text: what it does, one sentence.
        unit: of the value, ``""`` for none.
        low: smallest value allowed, for numbers.
        high: largest value allowed, for numbers.
        choices: the values allowed, for texts.
        plugins: knows further values, which other packages bring.
        dynamic: may change while the node runs.
    """

    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    plugins: Registry[Any] | None = None
    dynamic: bool = False


def _p(default: Any, text: str, **more: Any) -> Any:
    metadata = {"declaration": Declaration(text, **more), "help": text}
    return field(default=default, metadata=metadata)


def _of(config: type[PostprocessConfig | RankingConfig], name: str, text: str, **more: Any) -> Any:
    """Declare a dynamic parameter whose default and range stand in the part that uses it."""
    default = next(f.default for f in dataclasses.fields(config) if f.name == name)
    low, high = config.RANGES.get(name, (None, None))
    return _p(default, text, low=low, high=high, dynamic=True, **more)


@dataclass(frozen=True, kw_only=True)
class PerceptionParameters(ABC):
    """Parameters of every node, whatever the task of its student.

    The fields are described by their declarations, see ``declarations``.
    """

    TASK: ClassVar[TaskName]
    """Task of the students that these are for, and the usual name of their node."""

    student: str = _p(
        "",
        "Student file, or the name of one that comes with the package; empty: street6 "
        "(segmentation only).",
    )
    runtime: str = _p(
        "auto", "What runs the network; also one of your own.", choices=tuple(RUNTIMES.own),
        plugins=RUNTIMES,
    )  # fmt: skip
    device: Device = _p("auto", "Where it runs.", choices=("auto", "cpu", "cuda"))
    precision: Precision = _p("auto", "Arithmetic of the network.", choices=get_args(Precision))
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
        25.0, "A window of a stalled camera is closed this long after its end; 0: never.",
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
        10.0, "Hot pixels fire more often than those around them, by this factor.", low=1,
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

    roi: tuple[int, int, int, int] = _p(
        (0, 0, 0, 0),
        "Region that the student sees: x, y, width, height; events outside are left out, counted; "
        "width and height 0: all of the sensor.",
        unit="px", low=0, high=65_535,
    )  # fmt: skip
    rotation_deg: int = _p(
        0, "Clockwise turn that puts the camera's image upright: 0, 90, 180 or 270.", unit="deg",
        low=0, high=270,
    )  # fmt: skip
    max_pixels: int = _p(
        0, "Larger images are reduced by a whole factor for the network; 0: the student's own "
        "limit, -1: as many as this machine can do, measured at the start.",
        unit="px", low=-1, high=1 << 28,
    )  # fmt: skip

    frame_id: str = _p("", "frame_id of the results; empty: that of the events.", dynamic=True)
    camera_info_url: str = _p(
        "", "Calibration of the event camera (file://, package://); empty: from ~/camera_info_in."
    )

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
        for name, declaration in declarations(type(self)).items():
            _check(name, getattr(self, name), declaration)
        if self.stall_error_ms < self.stall_warn_ms:
            raise ConfigError(
                f"stall_error_ms must not be below stall_warn_ms ({self.stall_warn_ms}), "
                f"got {self.stall_error_ms}"
            )
        if self.rotation_deg % 90:
            raise ConfigError(f"rotation_deg must be 0, 90, 180 or 270, got {self.rotation_deg}")
        if (self.roi[2] == 0) != (self.roi[3] == 0):
            raise ConfigError(
                f"roi is x, y, width, height with both sizes above 0, or both 0 for all of the "
                f"sensor; got {list(self.roi)}"
            )

    @abstractmethod
    def postprocess(self) -> PostprocessConfig | RankingConfig:
        """Return the part that makes answers from logits."""

    @abstractmethod
    def interpreter(self, classes: ClassTable) -> Interpreter:
        """Return what makes answers from logits; ``postprocess`` configures it again."""

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
            roi=self.roi if any(self.roi) else None,
        )

    @property
    def tiles_wanted(self) -> tuple[int, int]:
        """Columns and rows of tiles; (1, 1): none, (0, 0): as many as the student needs."""
        return (1, 1)

    @property
    def sees_as_trained(self) -> bool:
        """Whether the student is fed the whole sensor by its own description of the input."""
        is_whole = not any(self.roi) and self.rotation_deg == 0
        return is_whole and self.max_pixels == 0 and self.tiles_wanted == (1, 1)

    def view(self, *, height: int, width: int) -> View:
        """Return how the student looks at a sensor of this size.

        Raises:
            ConfigError: ``roi`` lies outside of it.
        """
        return View.of(height=height, width=width, roi=self.roi, rotation_deg=self.rotation_deg)

    def working_size(self, spec: InputSpec, runner: Runner, seen: tuple[int, int]) -> WorkingSize:
        """Return the size at which a student sees ``seen``, (height, width) of a view.

        Raises:
            ConfigError: impossible tiles.
        """
        return working_size(
            spec,
            runner,
            seen=seen,
            max_pixels=self.max_pixels,
            tiles=self.tiles_wanted,
            step_us=self.stride_us or self.window_us or spec.window_us,
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


@dataclass(frozen=True, kw_only=True)
class SegmentationParameters(PerceptionParameters):
    """Parameters of the segmentation node; ``config/seg.yaml`` holds them."""

    TASK: ClassVar[TaskName] = "segmentation"

    unlabelled_radius_px: int = _of(
        PostprocessConfig, "unlabelled_radius_px",
        "Pixels with no event in the square of this radius are 255 (unlabelled); -1: none are.",
        unit="px",
    )  # fmt: skip
    min_neighbours: int = _of(
        PostprocessConfig, "min_neighbours",
        "An event counts only if this many of the 8 pixels around it fired too (noise is alone).",
        unit="px",
    )  # fmt: skip
    closing_px: int = _of(
        PostprocessConfig, "closing_px",
        "Gaps up to twice this wide between labelled regions are filled.", unit="px",
    )  # fmt: skip
    instances: HowApart = _of(
        PostprocessConfig, "instances",
        "How things are separated; auto: by the student's instance head, if it has one.",
        choices=get_args(HowApart),
    )  # fmt: skip
    join_px: int = _of(
        PostprocessConfig, "join_px",
        "Components: parts of things up to twice this far apart are one detection.", unit="px",
    )  # fmt: skip
    centre_min_score: float = _of(
        PostprocessConfig, "centre_min_score",
        "Instance head: a maximum of the heat map below this is no centre of a thing.",
    )  # fmt: skip
    centre_distance_px: float = _of(
        PostprocessConfig, "centre_distance_px",
        "Instance head: two centres are further apart than this.", unit="px",
    )  # fmt: skip
    centre_valley: float = _of(
        PostprocessConfig, "centre_valley",
        "Instance head: two maxima are one centre unless the heat between them falls below this "
        "share of the lower one; 1: every maximum is a centre.",
    )  # fmt: skip
    vote_reach_px: float = _of(
        PostprocessConfig, "vote_reach_px",
        "Instance head: how far a pixel's offset may miss the centre of its thing.", unit="px",
    )  # fmt: skip
    min_area_px: int = _of(
        PostprocessConfig, "min_area_px", "Smaller things are no detections.", unit="px"
    )
    min_score: float = _of(
        PostprocessConfig, "min_score", "Things with a lower score are no new detections."
    )
    keep_score: float = _of(
        PostprocessConfig, "keep_score", "Score that a detection needs to keep the id of its track."
    )
    track_min_iou: float = _of(
        PostprocessConfig, "track_min_iou",
        "Overlap with the predicted box that keeps a detection's id.",
    )  # fmt: skip
    track_max_missed_s: float = _of(
        PostprocessConfig, "track_max_missed_s",
        "Sensor time that an id survives unseen (occluded, or standing still).", unit="s",
    )  # fmt: skip
    track_max_merged_s: float = _of(
        PostprocessConfig, "track_max_merged_s",
        "Sensor time that ids survive while one component covers several things.", unit="s",
    )  # fmt: skip
    track_noise_px: float = _of(
        PostprocessConfig, "track_noise_px",
        "Noise of a thing's centre, width and height (one standard deviation).", unit="px",
    )  # fmt: skip
    track_agility: float = _of(
        PostprocessConfig, "track_agility",
        "Change of velocity within 1 s, in sides of the box a second (the same).", unit="1/s",
    )  # fmt: skip
    track_smooth_boxes: bool = _of(
        PostprocessConfig, "track_smooth_boxes",
        "Publish filtered boxes from the third window of a track on, not the window's.",
    )  # fmt: skip

    tiles: tuple[int, int] = _p(
        (1, 1),
        "Columns and rows of overlapping tiles at full resolution, one after another; 1, 1: no "
        "tiles, 0, 0: as many as the student's limit needs.",
        low=0, high=64,
    )  # fmt: skip

    mask_size: MaskSize = _p(
        "sensor",
        "Resolution of ~/mask, ~/confidence and ~/mask_color: that of the sensor, or that of the "
        "network's input, which is smaller where the sensor is reduced.",
        choices=get_args(MaskSize), dynamic=True,
    )  # fmt: skip
    overlay_alpha: float = _p(
        0.5, "Weight of the colour in the overlay.", low=0, high=1, dynamic=True
    )
    publish_detections: bool = _p(True, "Make ~/detections when somebody listens.", dynamic=True)
    publish_confidence: bool = _p(True, "Make ~/confidence when somebody listens.", dynamic=True)
    publish_mask_color: bool = _p(True, "Make ~/mask_color when somebody listens.", dynamic=True)

    def postprocess(self) -> PostprocessConfig:
        """Return the part that makes masks from logits."""
        names = [f.name for f in dataclasses.fields(PostprocessConfig)]
        return PostprocessConfig(**{name: getattr(self, name) for name in names})

    def __post_init__(self) -> None:
        """Refuse values outside their declared range, and half of a choice."""
        super().__post_init__()
        if (self.tiles[0] == 0) != (self.tiles[1] == 0):
            raise ConfigError(
                f"tiles is columns, rows, both above 0, or both 0; got {list(self.tiles)}"
            )

    @property
    def tiles_wanted(self) -> tuple[int, int]:
        """Columns and rows of tiles."""
        return self.tiles

    def interpreter(self, classes: ClassTable) -> Postprocessor:
        """Return what makes masks and detections."""
        return Postprocessor(self.postprocess(), classes.thing_ids, classes.names)


@dataclass(frozen=True, kw_only=True)
class RecognitionParameters(PerceptionParameters):
    """Parameters of the recognition node; ``config/recognition.yaml`` holds them."""

    TASK: ClassVar[TaskName] = "recognition"

    top_k: int = _of(
        RankingConfig,
        "top_k",
        "Largest number of classes in a result, the likeliest first.",
        unit="classes",
    )
    min_score: float = _of(RankingConfig, "min_score", "Less likely classes are not named.")
    min_events: int = _of(
        RankingConfig, "min_events",
        "Windows with fewer events name no class (a network guesses from noise as well).",
        unit="events",
    )  # fmt: skip

    def postprocess(self) -> RankingConfig:
        """Return the part that ranks classes."""
        return RankingConfig(top_k=self.top_k, min_score=self.min_score, min_events=self.min_events)

    def interpreter(self, classes: ClassTable) -> Ranker:
        """Return what ranks classes."""
        return Ranker(self.postprocess(), classes.names)


_RENAMED = {
    "track_max_missed": (
        "track_max_missed_s",
        "which counts seconds of sensor time and not windows: 4 windows of 50 ms are 0.2",
    )
}
"""Names that parameters once had, the names of today, and what changed."""

Kind = type[PerceptionParameters]
KINDS: dict[TaskName, Kind] = {k.TASK: k for k in (SegmentationParameters, RecognitionParameters)}


def declarations(kind: Kind = SegmentationParameters) -> dict[str, Declaration]:
    """Return the declaration of every parameter by name, in order."""
    return {f.name: f.metadata["declaration"] for f in dataclasses.fields(kind)}


def renamed(kind: Kind = SegmentationParameters) -> dict[str, str]:
    """Return the names that parameters of a kind once had, and what to write instead."""
    known = declarations(kind)
    return {old: f"{new}, {change}" for old, (new, change) in _RENAMED.items() if new in known}


def defaults(kind: Kind = SegmentationParameters) -> dict[str, object]:
    """Return the default of every parameter by name, in order, as plain data of YAML."""
    values = {f.name: f.default for f in dataclasses.fields(kind)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def markdown_table(kind: Kind = SegmentationParameters) -> str:
    """Return the parameters as a table for the documentation."""
    lines = [
        "| parameter | default | unit | range | dynamic | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for name, d in declarations(kind).items():
        default = defaults(kind)[name]
        shown = '`""`' if default == "" else f"`{_as_yaml(default)}`"
        limits = choices_text(d)
        if d.low is not None:
            limits = f"{d.low:g} .. {d.high:g}"
        changes = "yes" if d.dynamic else "no"
        lines.append(f"| `{name}` | {shown} | {d.unit} | {limits} | {changes} | {d.text} |")
    return "\n".join(lines) + "\n"


def choices_text(declaration: Declaration) -> str:
    """Return the values allowed in words, empty for what is no choice."""
    listed = ", ".join(declaration.choices)
    return f"{listed}, or package.module:function" if declaration.plugins is not None else listed


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(name: str, value: Any, declaration: Declaration) -> None:
    low, high = declaration.low, declaration.high
    numbers = value if isinstance(value, tuple) else (value,)
    if low is not None and high is not None and not all(low <= v <= high for v in numbers):
        unit = f" {declaration.unit}" if declaration.unit else ""
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{name} must lie in {low:g}..{high:g}{unit}, got {shown}")
    if declaration.plugins is not None:
        declaration.plugins.require(value)
    elif declaration.choices and value not in declaration.choices:
        near = did_you_mean(str(value), declaration.choices)
        raise ConfigError(
            f"{name} must be one of {', '.join(declaration.choices)}, got {value!r}{near}"
        )

"""Recordings whose labels are what a finished student says of them.

A student that goes on learning forgets: cars of the user's own street that it found get lost while
it learns what is no vehicle elsewhere. So its own answers on that street become labels (Lee, 2013:
pseudo-labels; here those of a frozen student, as in learning without forgetting, Li and Hoiem,
2016). What it is not sure of has no label (docs/adr/0042).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.data.samples import Sample
from evdistill_core.data.unlabelled import RecordingsConfig, UnlabelledWindows
from evdistill_core.foundation.config import check_is_there
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.foundation.ranges import check_ranges
from evdistill_core.inference.grouping import group
from evdistill_core.inference.postprocess import (
    PostprocessConfig,
    detections_of,
    find_components,
    segment,
)
from evdistill_core.inference.runner import Output, Runner
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile, student_path
from evdistill_core.representations import InputSpec


@dataclass(frozen=True, kw_only=True)
class PseudoLabelsConfig:
    """Who labels, and what.

    Attributes:
        student: name of a bundled student, or path of a student file; it must be fed what the
            trained one is fed, and say the same classes.
        recordings: the recordings, which part of them, and what is changed.
        min_confidence: pixels of whose class the student is less sure have no label.
        min_score: pixels of things (vehicles, people) with a lower score have no label.
    """

    student: str
    recordings: RecordingsConfig
    min_confidence: float = 0.5
    min_score: float = PostprocessConfig.min_score

    def __post_init__(self) -> None:
        """Refuse thresholds out of range, and keys without a meaning here."""
        check_ranges(self, min_confidence=(0, 1), min_score=(0, 1))
        if self.recordings.whole or self.recordings.frame_within_us:
            raise ConfigError(
                "pseudo_labels.recordings cuts windows out of recordings and needs no images: "
                "leave whole and frame_within_us out"
            )

    def describe(self) -> str:
        """Return in a few words what this is."""
        names = ", ".join(path.name for path in self.recordings.paths)
        return f"recordings with labels by {student_path(self.student).stem}: {names}"


class PseudoLabelled:
    """Windows cut anywhere in recordings, labelled by a frozen student.

    The student sees the window as it is learned, changes included. It runs on the CPU in the
    process that asks for a sample, in float32.

    Args:
        config: recordings and student.
        spec: what the trained student is fed.
        classes: those of the trained student.
        seed: of all draws, with the index.

    Raises:
        ConfigError: the file of the labelling student is missing, it is fed something else, or says
            other classes.
        StudentError: its file is damaged.
        DataError: nothing long enough for a window is left.
        RecordingError: a recording cannot be read.
    """

    def __init__(
        self, config: PseudoLabelsConfig, spec: InputSpec, classes: ClassTable, *, seed: int
    ) -> None:
        path = student_path(config.student)
        check_is_there(path, "pseudo_labels.student")
        self._file = StudentFile.open(path)
        info = self._file.info
        if info.task != "segmentation":
            raise ConfigError(
                f"pseudo_labels.student {config.student} is a student of {info.task}: it names "
                "whole windows, and labels of pixels need one of segmentation"
            )
        if info.classes.names != classes.names:
            raise ConfigError(
                f"pseudo_labels.student {config.student} says {', '.join(info.classes.names)}, the "
                f"trained student {', '.join(classes.names)}: they must be the same"
            )
        if info.input != spec:
            raise ConfigError(
                f"pseudo_labels.student {config.student} is fed {info.input}, the trained student "
                f"{spec}: they must be the same"
            )
        self._config = config
        self._post = PostprocessConfig(min_score=config.min_score, keep_score=config.min_score)
        self._is_thing = np.zeros(256, np.uint8)
        self._is_thing[list(classes.thing_ids)] = 1
        self._windows = UnlabelledWindows(config.recordings, spec, seed=seed)
        self._runner: Runner | None = None

    def __len__(self) -> int:
        return len(self._windows)

    def sample(self, index: int) -> Sample:
        """Return the window of this index (>= 0)."""
        window = self._windows.sample(index)
        if self._runner is None:
            runtime = "onnxruntime" if self._file.has_onnx else "torch"
            self._runner = make_runner(self._file, runtime=runtime, device="cpu", precision="fp32")
        self._runner.reset()
        for earlier in () if window.past is None else window.past:
            self._runner.run_whole(earlier)
        said = self._runner.run_whole(window.input)
        label, instances = self._labels(said, window.valid)
        return Sample(window.input, label, window.active, past=window.past, instances=instances)

    def _labels(
        self, said: Output, valid: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        assert self._runner is not None  # it has just answered
        stride = self._runner.output_stride
        mask, confidence, _ = segment(said.logits, valid, stride=stride)
        numbers = np.zeros(mask.shape, np.uint16)
        if said.instances is None:
            found = find_components(mask, confidence, self._is_thing, self._post, numbers)
        else:
            instances = group(
                mask, confidence, said.logits, said.instances, self._is_thing, stride=stride,
                cell_px=stride, config=self._post.grouping(),
            )  # fmt: skip
            found, numbers = detections_of(instances, self._post), instances.ids
        is_found = np.zeros(1 + int(numbers.max(initial=0)), np.bool_)
        is_found[[d.instance_id for d in found]] = True
        is_found[0] = False
        things = np.where(is_found[numbers], numbers, 0).astype(np.uint16)
        unsure = confidence < self._config.min_confidence
        unsure |= (self._is_thing[mask] > 0) & (things == 0)
        return np.where(unsure, np.uint8(IGNORE), mask), things

    def __getstate__(self) -> dict[str, Any]:
        # Workers load the network for themselves.
        return {**self.__dict__, "_runner": None}

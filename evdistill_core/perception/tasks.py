"""What differs between the nodes of segmentation and of recognition, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evdistill_core.models.task_name import TaskName
from evdistill_core.perception.messages import ResultMessages
from evdistill_core.perception.parameters import (
    PerceptionParameters,
    RecognitionParameters,
    SegmentationParameters,
)
from evdistill_core.perception.recognition_messages import RecognitionMessages
from evdistill_core.perception.segmentation_messages import SegmentationMessages


@dataclass(frozen=True)
class PerceptionTask:
    """A task that a node can do.

    Attributes:
        name: of the task as the student file says it, and usual name of the node.
        parameters: of the node.
        messages: what makes its messages; ``messages.TYPES`` are its topics.
        recorded: topics that a run puts into its bag. Pictures are left out: the video has them,
            and the coloured mask would cost as much to compress as the network to run.
        bag: name of that bag.
        files: what its launch file and its parameter file are called.
        has_legend: classes are told apart by colour.
    """

    name: TaskName
    parameters: type[PerceptionParameters]
    messages: type[ResultMessages]
    recorded: tuple[str, ...]
    bag: str
    files: str
    has_legend: bool

    @property
    def topics(self) -> Mapping[str, str]:
        """Topic below the node's name -> message type, of what is published for each window."""
        return self.messages.TYPES


SEGMENTATION = PerceptionTask(
    "segmentation",
    SegmentationParameters,
    SegmentationMessages,
    recorded=("mask", "detections"),
    bag="masks.mcap",
    files="seg",
    has_legend=True,
)
RECOGNITION = PerceptionTask(
    "recognition",
    RecognitionParameters,
    RecognitionMessages,
    recorded=("classification",),
    bag="classifications.mcap",
    files="recognition",
    has_legend=False,
)
TASKS: Mapping[TaskName, PerceptionTask] = {t.name: t for t in (SEGMENTATION, RECOGNITION)}


def task_of(parameters: PerceptionParameters) -> PerceptionTask:
    """Return the task that parameters are for."""
    return TASKS[parameters.TASK]

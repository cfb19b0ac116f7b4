"""How a new student compares with the shipped one, on the recordings and images it was made of.

The recordings have no labels. Where they have camera images, the teacher's answer on these serves
as a reference; else only the agreement of both students can be measured. Where labelled windows
were kept apart (in the profiles: simulated from images), both are scored on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from evdistill_core.data.build import build_validation_sources
from evdistill_core.data.recording_index import IndexedRecording, Segment, index_recording
from evdistill_core.data.scoring import load_predictor
from evdistill_core.drawing.colours import event_picture
from evdistill_core.evaluation.confusion import Confusion
from evdistill_core.evaluation.pictures import label_picture
from evdistill_core.evaluation.segmentation import Predict, score_windows
from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.inference.postprocess import segment
from evdistill_core.perception.front_end import SHIPPED_STUDENT
from evdistill_core.perception.student import Student
from evdistill_core.recordings.finding import find_recordings
from evdistill_core.training.distill_config import DistillConfig
from evdistill_core.training.teacher import load_teacher
from evdistill_core.training.teacher_base import Teacher

Mask = npt.NDArray[np.uint8]
Mood = Literal["better", "same", "worse", "mixed", "unknown"]
WINDOWS = 48
"""Windows of all recordings together: a minute on one core."""
MAX_RECORDINGS = 8
MAX_VALIDATION = 100
"""Windows of each labelled set: simulating more would take minutes."""
MIN_IMAGES = 8
"""Fewer camera images than this decide nothing."""
TIE_POINTS = 0.02
"""A smaller difference of mIoU is called about the same: so few windows do not tell more."""
EXAMPLES = 4
EXAMPLE_HEADS = ("events", "new student", "shipped student")
MOST_OF_ONE_CLASS = 0.95
"""A teacher that says one class on more of the pixels is no reference: it has not learnt enough."""
_FRAME_WITHIN_US = 100_000
_MULTIPLE = 32  # of the sides of an image that a teacher sees


@dataclass(frozen=True)
class Pair:
    """Scores of both students on the same windows, 0..1; NaN where nothing could be counted.

    Attributes:
        new: of the new student.
        shipped: of the shipped one.
        windows: how many.
    """

    new: float
    shipped: float
    windows: int

    @property
    def difference(self) -> float:
        """How much higher the new one is."""
        return self.new - self.shipped


@dataclass(frozen=True)
class Comparison:
    """What could be compared; None where it could not.

    Attributes:
        shipped: name of the shipped student.
        classes: names of the classes that both know and that were compared.
        validation: mIoU near events of each labelled set, by name.
        teacher: mIoU near events against the teacher on the camera images of the recordings; None
            where there are too few, or where it says nearly everywhere the same.
        agreement: share of labelled pixels on which both students say the same.
        windows: of the recordings, for ``agreement``.
        reason: why nothing could be compared; empty if something was.
        unused: why the teacher on camera images decides nothing; empty if it does.
        examples: rows of RGB images of the recordings, see ``EXAMPLE_HEADS``.
    """

    shipped: str
    classes: tuple[str, ...] = ()
    validation: Mapping[str, Pair] | None = None
    teacher: Pair | None = None
    agreement: float | None = None
    windows: int = 0
    reason: str = ""
    unused: str = ""
    examples: Sequence[Sequence[Mask]] = ()

    @property
    def judged(self) -> list[tuple[str, Pair]]:
        """What a verdict rests on, each with where it was measured; pairs without a value left out.

        The teacher on images of the recordings comes first, then the labelled sets together.
        """
        found = []
        if self.teacher is not None:
            images = f"{self.teacher.windows} camera images of your recordings"
            found.append((f"against the teacher on {images}", self.teacher))
        if self.validation:
            pairs = list(self.validation.values())
            windows = sum(pair.windows for pair in pairs)
            new, shipped = ([getattr(p, side) for p in pairs] for side in ("new", "shipped"))
            mean = Pair(float(np.mean(new)), float(np.mean(shipped)), windows)
            found.append((f"on {windows} labelled windows that were kept apart", mean))
        return [(where, pair) for where, pair in found if np.isfinite(pair.difference)]

    @property
    def mood(self) -> Mood:
        """How the new student compares; "mixed" where one measure contradicts the other."""
        signs = {0 if abs(p.difference) < TIE_POINTS else np.sign(p.difference)
                 for _, p in self.judged}  # fmt: skip
        if not signs:
            return "unknown"
        if signs == {0}:
            return "same"
        if {1, -1} <= signs:
            return "mixed"
        return "better" if 1 in signs else "worse"


def compare_with_shipped(
    student: Path, config: DistillConfig, *, shipped: Path = SHIPPED_STUDENT
) -> Comparison:
    """Compare a new student file with the shipped one.

    Args:
        student: the new student file.
        config: of its distillation: recordings, labelled sets, teacher.
        shipped: the other student file.

    Returns:
        The comparison; with a ``reason`` where nothing could be compared, an error included: the
        student is made, and a comparison that fails must not fail the command.
    """
    try:
        return _compare(student, config, shipped)
    except EvdistillError as error:
        return Comparison(shipped.name, reason=f"it failed: {error}")


def _compare(student: Path, config: DistillConfig, shipped: Path) -> Comparison:
    new, old = Student.load(student), Student.load(shipped)
    if new.task != old.task:
        return Comparison(
            shipped.name,
            reason=f"the shipped {shipped.name} is a student of {old.task}, this one of {new.task}",
        )
    common = tuple(name for name in new.classes.names if name in old.classes.names)
    if len(common) < 2:
        return Comparison(
            shipped.name,
            reason=f"the shipped {shipped.name} knows other classes "
            f"({', '.join(old.classes.names)}), so there is nothing to compare",
        )
    validation = _on_validation(student, shipped, config, common)
    moments = _moments(config, new, old)
    teacher = load_teacher(config.teacher, new.classes, torch.device("cpu"))
    seen = _on_recordings(moments, new, old, teacher, common)
    return Comparison(
        shipped.name,
        common,
        validation or None,
        seen.teacher,
        seen.agreement,
        len(moments),
        unused=seen.unused,
        examples=seen.examples,
    )


def _on_validation(
    student: Path, shipped: Path, config: DistillConfig, common: Sequence[str]
) -> dict[str, Pair]:
    """Score both on the labelled windows that were kept apart, over the common classes."""
    scores = []
    classes = config.class_table()
    for path in (student, shipped):
        predictor = load_predictor(path)
        predict = _Renamed(predictor.predict, _columns(predictor.classes, classes, common))
        found: dict[str, tuple[float, int]] = {}
        sets = build_validation_sources(config.data, predictor.input, classes)
        for name, source in sets.items():
            windows = (source.sample(i) for i in range(min(len(source), MAX_VALIDATION)))
            result = score_windows(predict, windows, classes)
            found[name] = _miou(result.near_events, classes, common), result.windows
        scores.append(found)
    return {
        name: Pair(value, scores[1][name][0], windows)
        for name, (value, windows) in scores[0].items()
    }


def _columns(own: ClassTable, wanted: ClassTable, common: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return for each wanted class its place in a student's logits; -1: not compared."""
    return np.array(
        [own.names.index(n) if n in common and n in own.names else -1 for n in wanted.names]
    )


@dataclass(frozen=True)
class _Renamed:
    """A student whose logits have the order of other classes; one that it lacks never wins."""

    predict: Predict
    columns: npt.NDArray[np.int64]

    def __call__(self, network_input: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        renamed = self.predict(network_input)[self.columns]
        renamed[self.columns < 0] = -1e9
        return np.asarray(renamed, np.float32)


def _miou(confusion: Confusion, classes: ClassTable, common: Sequence[str]) -> float:
    iou = [confusion.scores().iou[classes.names.index(name)] for name in common]
    finite = [value for value in iou if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


@dataclass(frozen=True)
class _Moment:
    """A time in a recording, with an image of the camera if there is one."""

    recording: IndexedRecording
    segment: Segment
    t_end_us: int
    image: Mask | None


def _moments(config: DistillConfig, *students: Student) -> list[_Moment]:
    """Return moments spread evenly over the recordings; at camera images where there are some."""
    settings = config.data.recordings
    if settings is None or settings.whole:
        return []
    paths = [found for path in settings.paths for found in find_recordings(path)]
    step = max(1, len(paths) // MAX_RECORDINGS)
    chosen = paths[::step][:MAX_RECORDINGS]
    length_us = max(s.input.span_us for s in students)
    moments: list[_Moment] = []
    for path in chosen:
        recording = index_recording(path, settings.cache)
        spans = [s for s in recording.segments if s.t_end_us - s.t_start_us > length_us]
        if not spans:
            continue
        longest = max(spans, key=lambda s: s.t_end_us - s.t_start_us)
        first, last = longest.t_start_us + length_us, longest.t_end_us
        count = max(1, WINDOWS // len(chosen))
        for t_us in np.linspace(first, last, count).astype(np.int64).tolist():
            frame_us = recording.last_frame_us(t_us, within_us=_FRAME_WITHIN_US)
            at_us, image = int(t_us), None
            if frame_us is not None and frame_us >= first:
                at_us, image = frame_us, recording.frame_before(frame_us, within_us=1)
            moments.append(_Moment(recording, longest, at_us, image))
    return moments


@dataclass
class _Seen:
    """What the recordings say."""

    teacher: Pair | None = None
    agreement: float | None = None
    unused: str = ""
    examples: list[list[Mask]] = field(default_factory=list)


def _on_recordings(
    moments: Sequence[_Moment],
    new: Student,
    old: Student,
    teacher: Teacher,
    common: Sequence[str],
) -> _Seen:
    """Return scores against the teacher on camera images, how far both agree, and examples."""
    seen = _Seen()
    shown = set(np.linspace(0, len(moments) - 1, EXAMPLES).astype(int)) if moments else set()
    classes = new.classes
    # Classes of the shipped student that are not compared become "no label".
    place = np.full(IGNORE + 1, IGNORE, np.uint8)
    for name in common:
        place[old.classes.names.index(name)] = classes.names.index(name)
    is_common = np.zeros(IGNORE + 1, np.bool_)
    is_common[[classes.names.index(name) for name in common]] = True
    ours, theirs = Confusion(len(classes)), Confusion(len(classes))
    same = both = images = 0
    for i, moment in enumerate(moments):
        (events, mask), (_, theirs_mask) = _answer(new, moment), _answer(old, moment)
        other = place[theirs_mask]
        if i in shown and (not seen.examples or seen.examples[0][0].shape[:2] == mask.shape):
            answers = [label_picture(m, classes) for m in (mask, other)]
            seen.examples.append([event_picture(events)[..., ::-1], *answers])
        labelled = (mask != IGNORE) & (other != IGNORE)
        same += int(np.count_nonzero((mask == other) & labelled))
        both += int(np.count_nonzero(labelled))
        if moment.image is None:
            continue
        truth = _teacher_mask(teacher, moment.image)
        if truth.shape != mask.shape:
            continue
        images += 1
        where = labelled & is_common[truth]
        ours.add(truth, mask, where)
        theirs.add(truth, other, where)
    seen.agreement = same / both if both else None
    of_class = ours.counts.sum(1)
    most = float(of_class.max()) / max(1, int(of_class.sum()))
    if images < MIN_IMAGES:
        seen.unused = f"{images} camera images were found; {MIN_IMAGES} are needed"
    elif not of_class.any():
        seen.unused = "it says none of the compared classes where both students do"
    elif most >= MOST_OF_ONE_CLASS:
        name = classes.names[int(of_class.argmax())]
        seen.unused = f"the teacher says {name} on {100 * most:.0f} % of the pixels"
    else:
        new_miou, old_miou = (_miou(c, classes, common) for c in (ours, theirs))
        seen.teacher = Pair(new_miou, old_miou, images)
    return seen


def _answer(student: Student, moment: _Moment) -> tuple[Events, Mask]:
    """Return the events that end at a moment and their mask; earlier ones fill a state."""
    spec, stream = student.input, student.stream()
    found: tuple[Events, Mask] | None = None
    for back in reversed(range(max(1, spec.sequence))):
        end_us = moment.t_end_us - back * spec.window_us
        start_us = end_us - spec.window_us
        events = moment.recording.events(moment.segment, start_us, end_us)
        window = Window(events, start_us, end_us, spec.sequence - 1 - back)
        found = events, stream.take_window(window).mask
    assert found is not None  # the loop runs at least once
    return found


def _teacher_mask(teacher: Teacher, image: Mask) -> Mask:
    """Return the teacher's most likely class at every pixel of a grey image."""
    height, width = image.shape
    pad = [(0, -n % _MULTIPLE) for n in (height, width)]
    x = torch.from_numpy(np.pad(image, pad, mode="edge").astype(np.float32) / 127.5 - 1)
    with torch.inference_mode():
        logits = teacher.see(x[None, None]).logits
        log_p = teacher.log_posterior(logits.float())[0].numpy()
    stride = (height + pad[0][1]) / log_p.shape[1]
    return segment(log_p, np.ones((height, width), np.uint8), stride=stride)[0]

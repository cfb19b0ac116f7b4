"""A trained student in Python: load it, give it a recording or events, take results."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from evdistill_core.events.account import ASKED_FOR, EventAccount, account_of_stream
from evdistill_core.events.array import Events, Triggers
from evdistill_core.events.packet import Packet
from evdistill_core.events.stream import DecodedPacket
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import StudentError
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.models.task_name import TaskName
from evdistill_core.perception.feed import gives_messages, in_order
from evdistill_core.perception.front_end import make_student_runner, open_student
from evdistill_core.perception.ingest import Incoming, Ingest, Job
from evdistill_core.perception.parameter_files import load_parameters
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.predictor import Sizes, WindowPredictor
from evdistill_core.perception.result import Result
from evdistill_core.recordings.base import Frame, Recording
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import InputSpec

_log = logging.getLogger(__name__)

Source = str | Path | Recording | Events | Iterable[Events | Window]


class Student:
    """A trained student, loaded; made by ``Student.load``.

    Three ways to use it give the same answers:

    - ``predict(source)`` for recordings and for anything that can be iterated over;
    - ``stream()`` for events that arrive piece by piece, from a camera of your own;
    - ``student(window)`` for a single window, by itself.

    Not safe to share between threads: load one for each.
    """

    def __init__(self, file: StudentFile, runner: Runner, parameters: PerceptionParameters) -> None:
        self._file = file
        self._runner = runner
        self._parameters = parameters
        self._sizes: Sizes = {}

    @staticmethod
    def load(path: str | Path | None = None, **parameters: object) -> Student:
        """Load a student file.

        Args:
            path: the student file (``.evstudent``); None: the one that comes with the package.
            **parameters: any parameter of the ROS node by name, for example ``device="cuda"``,
                ``window_us=30_000``, ``min_score=0.5`` (``config/seg.yaml`` lists them).

        Raises:
            StudentError: the file is missing or damaged.
            ConfigError: an unknown parameter, a value out of range, or a runtime or device that
                is not to be had here.
        """
        given = dict(parameters)
        if path is not None:
            given["student"] = str(path)
        values = load_parameters(None, given)
        return Student(*open_student(values), values)

    @property
    def path(self) -> Path:
        """The student file."""
        return self._file.path

    @property
    def task(self) -> TaskName:
        """What its results have: masks ("segmentation") or guesses ("recognition")."""
        return self._parameters.TASK

    @property
    def input(self) -> InputSpec:
        """What the student is fed: window, representation and size; for ``represent``."""
        return self._file.info.input

    @property
    def classes(self) -> ClassTable:
        """Names, colours and kinds of the classes; the position is the id in a mask."""
        return self._file.info.classes

    @property
    def parameters(self) -> PerceptionParameters:
        """Everything that it was told at ``load``, defaults included."""
        return self._parameters

    @property
    def description(self) -> str:
        """Network, runtime, device and precision in one line."""
        return self._runner.description

    def predict(  # noqa: PLR0913 - a source, how to read it, and a part of it
        self,
        source: Source,
        *,
        topic: str | None = None,
        columns: str | None = None,
        time_unit: str | None = None,
        size: str | Sequence[int] | None = None,
        camera: str | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
    ) -> Results:
        """Return the results of all windows, in order, to be iterated over; no window is dropped.

        Events can be left out all the same: those that come too late, or that stray in time. At
        the end a warning in the log says how many and why, but not what your own filters, limits
        and span left out. ``account`` of what is returned holds all numbers.

        Window length, overlap, filters and thresholds are those given to ``load``. Tracks and
        the state of a recurrent student go from window to window and restart at breaks of the
        stream. Results of a recording are those of ``evdistill run``.

        Args:
            source: path of a recording, an open ``Recording``, ``Events``, or any iterable of
                ``Events`` (cut into windows here) or of ``Window`` (taken as they are).
            topic: event topic or stream of a recording that has several; with a path only.
            columns: how to read the file at a path, as ``open_recording`` takes it.
            time_unit: the same.
            size: the same.
            camera: the same.
            start_s: begin this many seconds after the first event of a recording.
            end_s: stop this many seconds after it; None: at the end.

        Raises:
            RecordingError: the recording cannot be read.
            ConfigError: an option of reading with an impossible value.
            StudentError: the student is damaged, ``source`` is of another kind, or an option means
                nothing for it.
        """
        if isinstance(source, str | Path):
            source = open_recording(
                source, topic=topic, columns=columns, time_unit=time_unit, size=size, camera=camera
            )
        elif any(told is not None for told in (topic, columns, time_unit, size, camera)):
            raise StudentError(
                "topic, columns, time_unit, size and camera say how to read the file at a path; "
                f"got a {type(source).__name__}: give the path, or give them to open_recording"
            )
        if isinstance(source, Recording):
            span = source.span_us(start_s, end_s)
            stream = self.stream()
            reader = None if gives_messages(source, *span) else source
            return Results(stream, _of_recording(stream, source, span), reader)
        if start_s or end_s is not None:
            raise StudentError("start_s and end_s are for recordings only")
        if isinstance(source, Events):
            source = [source]
        if not isinstance(source, Iterable):
            raise StudentError(
                f"predict takes a path, a Recording, Events or an iterable of Events or Windows, "
                f"got {type(source).__name__}"
            )
        stream = self.stream()
        return Results(stream, _of_items(stream, source))

    def stream(self) -> Stream:
        """Return a new stream, for events that arrive piece by piece."""
        return Stream(self._file, self._own_runner(), self._parameters, self._sizes)

    def __call__(self, window: Window | Events) -> Result:
        """Return the result of one window by itself: ids count from 1, no state is carried.

        Args:
            window: from ``Recording.windows``, or events: their window is from the first to the
                last of them.

        Raises:
            StudentError: no window and no events, or events without a single one: give a Window
                to say when it was.
        """
        self._runner.reset()
        predictor = WindowPredictor(
            self._file, self._runner, self._parameters, _ignore, sizes=self._sizes
        )
        return predictor(_job_of(_as_window(window)))

    def _own_runner(self) -> Runner:
        """Return a runner for one stream: its own where a state is carried, else the shared one."""
        if not self._runner.is_recurrent:
            return self._runner
        return make_student_runner(self._file, self._parameters)

    def __repr__(self) -> str:
        classes = f"{len(self.classes)} classes"
        return f"Student({self.path.name}: {self.task}, {classes}, {self.description})"


class Results(Iterator[Result]):
    """The results of a source, window by window; made by ``Student.predict``.

    It can be iterated over once. ``account`` and ``counters`` are complete at its end.
    """

    def __init__(
        self, stream: Stream, results: Iterator[Result], reader: Recording | None = None
    ) -> None:
        self._stream = stream
        self._results = results
        self._reader = reader
        self._has_told = False

    @property
    def counters(self) -> dict[str, int]:
        """What came in and what became of it, by the names of the node's diagnostics."""
        return self._stream.counters

    @property
    def account(self) -> EventAccount:
        """How many events were used and left out so far, by reason; ``lines()`` says it."""
        reader = {} if self._reader is None else self._reader.counters
        return account_of_stream(self._stream.counters, reader)

    def __next__(self) -> Result:
        try:
            return next(self._results)
        except StopIteration:
            if not self._has_told:
                self._has_told = True
                for line in self.account.lines(but=ASKED_FOR):
                    _log.warning(line)
            raise


def _of_recording(
    stream: Stream, recording: Recording, span: tuple[int | None, int | None]
) -> Iterator[Result]:
    with recording:
        for item in in_order(recording, *span):
            is_image = isinstance(item, Packet) and item.topic != recording.info.topic
            if not isinstance(item, Frame) and not is_image:
                yield from stream.take(item)
    yield from stream.flush()


def _of_items(stream: Stream, source: Iterable[Events | Window]) -> Iterator[Result]:
    for item in source:
        if isinstance(item, Window):
            yield stream.take_window(item)
        elif isinstance(item, Events):
            yield from stream.push(item)
        else:
            raise StudentError(
                f"predict takes Events or Windows one after another, got {type(item).__name__}"
                "; Events.from_structured and Events.from_columns make Events of arrays"
            )
    yield from stream.flush()


class Stream:
    """One stream of events through a student, without threads; made by ``Student.stream``.

    Attributes:
        counters: what came in and what became of it, by the names of the node's diagnostics.
    """

    def __init__(
        self, file: StudentFile, runner: Runner, parameters: PerceptionParameters, sizes: Sizes
    ) -> None:
        self._jobs: list[Job] = []
        self._counts: Counter[str] = Counter()
        self._ingest = Ingest(
            file.info.input,
            parameters,
            hand_over=self._jobs.append,
            count=self._count,
            record=_ignore,
            lossless=True,
        )
        runner.reset()
        self._predict = WindowPredictor(file, runner, parameters, self._count, sizes=sizes)

    @property
    def counters(self) -> dict[str, int]:
        """What came in and what became of it, by the names of the node's diagnostics."""
        return dict(self._counts) | self._ingest.stream_counters()

    @property
    def account(self) -> EventAccount:
        """How many events were used and left out so far, by reason; ``lines()`` says it."""
        return account_of_stream(self.counters)

    def push(self, events: Events, *, stamp_ns: int = 0) -> list[Result]:
        """Take in the next events; return the results of the windows that they complete.

        Args:
            events: later than those before; a jump in time is noticed and restarts.
            stamp_ns: host time at which the first of them came, nanoseconds since 1970; 0: not
                known, results are then stamped with sensor time.
        """
        return self.take(DecodedPacket(events, Triggers.empty(), stamp_ns, "", ""))

    def take(self, content: Packet | DecodedPacket) -> list[Result]:
        """Take in a serialized event message or what was decoded of one; see ``push``."""
        self._count("messages_received", 1)
        self._ingest.take(Incoming(content, time.monotonic_ns()))
        return self._results()

    def take_window(self, window: Window) -> Result:
        """Return the result of a window that was cut elsewhere."""
        self._count("windows", 1)
        return self._predict(_job_of(window))

    def flush(self) -> list[Result]:
        """Return the result of the last, incomplete window, if there is one."""
        self._ingest.flush()
        return self._results()

    def _results(self) -> list[Result]:
        jobs, self._jobs[:] = list(self._jobs), []
        self._count("windows", len(jobs))
        return [self._predict(job) for job in jobs]

    def _count(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount


def _ignore(*_: object) -> None:
    """Take what nobody asks for."""


def _as_window(given: Window | Events) -> Window:
    if isinstance(given, Window):
        return given
    if not isinstance(given, Events):
        raise StudentError(f"a student takes a Window or Events, got {type(given).__name__}")
    if not len(given):
        raise StudentError("there is no event to tell the window's time by: give a Window")
    return Window(given, int(given.t_us.min()), int(given.t_us.max()) + 1, 0)


def _job_of(window: Window) -> Job:
    now_ns = time.monotonic_ns()
    stamp_ns = window.stamp_ns or window.t_end_us * 1000
    return Job(window, stamp_ns, "", window.stretch, window.stretch, now_ns, now_ns)

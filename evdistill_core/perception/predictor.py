"""Windows of one stream in order -> results: representation, network, answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.runner import Runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.perception.ingest import Job
from evdistill_core.perception.parameters import PerceptionParameters
from evdistill_core.perception.result import Result
from evdistill_core.perception.view import View
from evdistill_core.perception.working_size import WorkingSize, run_network
from evdistill_core.representations import InputSpec, represent

_log = logging.getLogger(__name__)
Sizes = dict[tuple[int, int], tuple[WorkingSize, View]]
"""Height and width of a sensor -> the input and the view for it."""


class WindowPredictor:
    """Keeps what a student carries from window to window: state, tracks, and its input buffer.

    Every break of the stream sets the state back, counted as ``state_resets``; breaks after which
    tracks must not go on (a jump in time, another size) end them; no id is used twice.

    Args:
        student: its input description and class table.
        runner: the loaded network; this stream's alone.
        parameters: those of the student's task; the attribute may be replaced while running.
        count: adds one to a named counter.
        sizes: what was worked out for sensors before, by (height, width); is added to.
    """

    def __init__(
        self,
        student: StudentFile,
        runner: Runner,
        parameters: PerceptionParameters,
        count: Callable[[str], None],
        *,
        sizes: Sizes | None = None,
    ) -> None:
        self.parameters = parameters
        self._info = student.info
        self._runner = runner
        self._count = count
        self._interpreter = parameters.interpreter(student.info.classes)
        self._input: npt.NDArray[np.float32] | None = None
        self._epoch = 0
        self._stretch = 0
        self._has_state = False
        self._sizes: Sizes = {} if sizes is None else sizes
        self._size: WorkingSize | None = None

    def __call__(self, job: Job) -> Result:
        """Return the result of the next window."""
        self._follow_breaks(job)
        self._interpreter.configure(self.parameters.postprocess())
        window, sensed = job.window, job.window.events
        size, view = self._follow_size(sensed)
        taken_ns = time.monotonic_ns()
        events, spec = view.events(sensed), size.spec
        network_input = job.input
        if network_input is None or spec != self._info.input or not view.is_whole:
            network_input = self._represent(replace(window, events=events), spec)
        represented_ns = time.monotonic_ns()
        logits, head = run_network(self._runner, size, network_input)
        self._has_state = self._runner.is_recurrent
        inferred_ns = time.monotonic_ns()
        stride = sensor_stride(spec, logits, events)
        prediction = self._interpreter(
            logits,
            events,
            stride=stride,
            span_us=(window.t_start_us, window.t_end_us),
            head=head,
            factor=size.factor,
        )
        prediction = view.place(prediction)
        done_ns = time.monotonic_ns()
        return Result(
            window.index,
            window.t_start_us,
            window.t_end_us,
            job.stamp_ns,
            self.parameters.frame_id or job.frame_id,
            sensed,
            prediction,
            self._info.classes,
            job.received_ns,
            {
                "window": (job.closed_ns - job.received_ns) / 1e6,
                "mailbox": (taken_ns - job.closed_ns) / 1e6 - job.represent_ms,
                "represent": (represented_ns - taken_ns) / 1e6 + job.represent_ms,
                "infer": (inferred_ns - represented_ns) / 1e6,
                "postprocess": (done_ns - inferred_ns) / 1e6,
            },
            job.epoch,
        )

    def _represent(self, window: Window, spec: InputSpec) -> npt.NDArray[np.float32]:
        """Return the input of a window, in a buffer that the next window overwrites."""
        shape = spec.shape(height=window.events.height, width=window.events.width)
        if self._input is None or self._input.shape != shape:
            self._input = np.empty(shape, np.float32)
        return represent(window, spec, out=self._input)

    @property
    def size(self) -> WorkingSize | None:
        """The input in use; None before the first window."""
        return self._size

    def _follow_size(self, events: Events) -> tuple[WorkingSize, View]:
        """Return the input and the view for the sensor of these events."""
        sensor = events.height, events.width
        if sensor not in self._sizes:
            view = self._view(events.height, events.width)
            size = self.parameters.working_size(self._info.input, self._runner, view.size)
            self._sizes[sensor] = size, view
            if note := size.note():
                _log.warning("%s", note)
        found = self._sizes[sensor]
        self._size = found[0]
        return found

    def _view(self, height: int, width: int) -> View:
        """Return the view; a size that comes later, which ``roi`` does not fit, is seen whole."""
        try:
            return self.parameters.view(height=height, width=width)
        except ConfigError as error:
            if not self._sizes:  # a mistake of the user's; later sizes are the sensor's doing
                raise
            _log.warning("%s; this size is seen without a region", error)
            turned = self.parameters.rotation_deg
            return View.of(height=height, width=width, roi=(0, 0, 0, 0), rotation_deg=turned)

    def _follow_breaks(self, job: Job) -> None:
        if job.epoch != self._epoch:
            self._epoch = job.epoch
            self._interpreter.reset()
        if job.stretch == self._stretch:
            return
        self._stretch = job.stretch
        if self._has_state:
            self._runner.reset()
            self._has_state = False
            self._count("state_resets")


def sensor_stride(spec: InputSpec, logits: npt.NDArray[np.float32], events: Events) -> float:
    """Return the sensor pixels a logit: of (K, h, w), or of (K,), one for the whole input."""
    grid = spec.grid(height=events.height, width=events.width)
    rows = logits.shape[1] if logits.ndim == 3 else 1
    return grid.factor * grid.height / rows

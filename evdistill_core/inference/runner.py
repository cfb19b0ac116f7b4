"""What every runtime of students looks like, and what runtimes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from evdistill_core.inference.prediction import InstanceOutput
from evdistill_core.inference.student import StudentFile

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
FloatArray = npt.NDArray[np.float32]


class Output(NamedTuple):
    """Everything that a student says of one window.

    Attributes:
        logits: see ``Runner.run``.
        instances: of students with an instance head.
    """

    logits: FloatArray
    instances: InstanceOutput | None = None


class Runner(Protocol):
    """A loaded student.

    One caller at a time; the caller may be any thread.

    Attributes:
        description: runtime, device and precision in one line, for logs and diagnostics.
        size_multiple: height and width of the input are multiples of this.
        output_stride: input cells per logit and axis.
        is_recurrent: whether ``run`` depends on the windows that it was given before.
        has_instances: whether ``run_whole`` gives instances.
    """

    @property
    def description(self) -> str:
        """Runtime, device and precision in one line."""
        ...

    @property
    def size_multiple(self) -> int:
        """Input height and width are multiples of this."""
        ...

    @property
    def output_stride(self) -> int:
        """Input cells per logit and axis."""
        ...

    @property
    def is_recurrent(self) -> bool:
        """Whether a state is carried from call to call; then a runner serves one stream."""
        ...

    @property
    def has_instances(self) -> bool:
        """Whether ``run_whole`` gives instances."""
        ...

    def reset(self) -> None:
        """Forget earlier windows: the next one begins a stream. Without a state: nothing."""
        ...

    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return everything that the student says of one window; ``run`` gives its logits alone.

        Args, errors and what is remembered are those of ``run``. All arrays are the caller's to
        keep.
        """
        ...

    def run(self, input_chw: FloatArray) -> FloatArray:
        """Return the logits of one window.

        A recurrent student remembers: call it with the windows of one stream in order, ``reset``
        where the stream breaks off. An input of another size begins a stream by itself.

        Args:
            input_chw: (C, H, W) float32 as ``representations.represent`` makes it; any H and W
                that are multiples of ``size_multiple``. Not modified, not kept.

        Returns:
            (K, H / s, W / s) float32, s the output stride; the caller's to keep. Students of
            recognition give (K,): one set of class logits a window.

        Raises:
            ValueError: another shape or dtype.
        """
        ...

    def warm_up(self, height: int, width: int) -> None:
        """Run on zeros of this size, so that the first window does not pay for lazy set-up.

        Forgets earlier windows.
        """
        ...


class StudentRunner(ABC):
    """Base of runners; one of your own writes ``description`` and ``run`` (see ``Runner``).

    One that can run instance heads writes ``run_whole`` and ``has_instances`` too. Without them a
    student with a head is run as one without.

    Args:
        student: an opened student file.
    """

    def __init__(self, student: StudentFile) -> None:
        self._channels = student.info.input.channels
        self._info = student.info.network

    @property
    @abstractmethod
    def description(self) -> str:
        """Runtime, device and precision in one line."""

    @property
    def size_multiple(self) -> int:
        """Input height and width are multiples of this."""
        return self._info.size_multiple

    @property
    def output_stride(self) -> int:
        """Input cells per logit and axis."""
        return self._info.output_stride

    @property
    def is_recurrent(self) -> bool:
        """Whether a state is carried from call to call."""
        return self._info.is_recurrent

    @property
    def has_instances(self) -> bool:
        """Whether ``run_whole`` gives instances."""
        return False

    def reset(self) -> None:  # noqa: B027 - most runners have nothing to forget
        """Forget earlier windows; those that carry a state override this."""

    @abstractmethod
    def run(self, input_chw: FloatArray) -> FloatArray:
        """Return the logits of one window (see ``Runner.run``)."""

    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return logits and instances of one window (see ``Runner.run_whole``)."""
        return Output(self.run(input_chw))

    def warm_up(self, height: int, width: int) -> None:
        """Run on zeros of this size."""
        for _ in range(3):  # cuDNN tries its algorithms, the allocator fills its pools
            self.run(np.zeros((self._channels, height, width), np.float32))
        self.reset()


class WholeRunner(StudentRunner):
    """Base of runners that know instance heads and recurrent states; each writes ``run_whole``."""

    _state: Any = None  # after the last window; None: at the beginning

    @property
    def has_instances(self) -> bool:
        """Whether ``run_whole`` gives instances."""
        return self._info.has_instances

    def reset(self) -> None:
        """Forget earlier windows."""
        self._state = None

    def run(self, input_chw: FloatArray) -> FloatArray:
        """Return the logits of one window (see ``Runner.run``)."""
        return self.run_whole(input_chw).logits

    @abstractmethod
    def run_whole(self, input_chw: FloatArray) -> Output:
        """Return logits and instances of one window (see ``Runner.run_whole``)."""


def run_sequence(runner: Runner, x: FloatArray) -> FloatArray:
    """Return the logits of the last window; see ``run_whole_sequence``."""
    return run_whole_sequence(runner, x).logits


def run_whole_sequence(runner: Runner, x: FloatArray) -> Output:
    """Return what a student says of the last window of a stream that begins with the first.

    Args:
        runner: is left with the state after the last window.
        x: (C, H, W) one window, or (T, C, H, W) windows in a row.
    """
    runner.reset()
    if x.ndim == 3:
        return runner.run_whole(x)
    for window in x[:-1] if runner.is_recurrent else ():
        runner.run(window)
    return runner.run_whole(x[-1])


def check_run_input(input_chw: FloatArray, channels: int, size_multiple: int) -> None:
    """Refuse what no runner can take.

    Raises:
        ValueError: not float32 (channels, H, W), or H or W no positive multiple.
    """
    shape = input_chw.shape
    if input_chw.dtype != np.float32 or len(shape) != 3 or shape[0] != channels:
        raise ValueError(f"input must be ({channels}, H, W) float32, got {shape} {input_chw.dtype}")
    if min(shape[1:]) < size_multiple or shape[1] % size_multiple or shape[2] % size_multiple:
        raise ValueError(
            f"height and width must be multiples of {size_multiple}, got {shape[1]}x{shape[2]}; "
            "InputSpec.grid gives the padded size"
        )

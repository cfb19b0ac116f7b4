"""Choosing what runs a student: ONNX Runtime or torch, CPU or CUDA, and the precision."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.inference.student import StudentFile

Runtime = Literal["auto", "onnxruntime", "torch"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
FloatArray = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)
# What the drivers of NVIDIA boards, Jetsons and WSL leave in /dev. Looking there costs nothing;
# asking torch would load it, which a robot without a GPU is spared.
_GPU_NODES = ("nvidiactl", "nvidia0", "nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu", "dxg")


class Runner(Protocol):
    """A loaded student.

    One caller at a time; the caller may be any thread.

    Attributes:
        description: runtime, device and precision in one line, for logs and diagnostics.
        size_multiple: height and width of the input are multiples of this.
        output_stride: input cells per logit and axis.
        is_recurrent: whether ``run`` depends on the windows that it was given before.
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

    def reset(self) -> None:
        """Forget earlier windows: the next one begins a stream. Without a state: nothing."""
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


def make_runner(
    student: StudentFile,
    *,
    runtime: Runtime = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: int = 0,
) -> Runner:
    """Load a student into the runtime that fits the machine.

    ``auto`` takes torch with fp16 where a CUDA device works, else ONNX Runtime with fp32 on the
    CPU, else (a student without an ONNX model) torch on the CPU; a fallback is logged with its
    reason. What is asked for by name is given or refused, never replaced.

    Args:
        student: an opened student file.
        runtime: "auto", "onnxruntime" or "torch".
        device: "auto", "cpu" or "cuda".
        precision: "auto" (fp16 on CUDA, fp32 on the CPU), "fp32", "fp16" or "bf16".
        threads: CPU threads for the network; 0: one for ONNX Runtime (the other cores decode and
            publish), torch's own default for torch. For torch this is a setting of the process.

    Raises:
        ConfigError: an unknown value, or a combination that this machine or this student does not
            have; the message says what it has.
        StudentError: the student file is damaged.
    """
    for name, value, allowed in (
        ("runtime", runtime, get_args(Runtime)),
        ("device", device, get_args(Device)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in allowed:
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if not 0 <= threads <= 1024:
        raise ConfigError(f"threads must lie in 0..1024, got {threads}")
    if runtime == "onnxruntime":
        return _onnx_runner(student, device, precision, threads)
    if runtime == "torch":
        return _torch_runner(student, device, precision, threads)
    return _best_runner(student, device, precision, threads)


def _best_runner(
    student: StudentFile, device: Device, precision: Precision, threads: int
) -> Runner:
    if device == "cuda":
        return _torch_runner(student, device, precision, threads)
    if device == "auto" and gpu_present():
        try:
            return _torch_runner(student, "cuda", precision, threads)
        except (ConfigError, RuntimeError) as error:
            _log.warning("a GPU is present but not used: %s", error)
    if precision in {"auto", "fp32"} and student.has_onnx:
        return _onnx_runner(student, "cpu", precision, threads)
    reason = (
        f"ONNX Runtime runs students in fp32, not {precision}"
        if student.has_onnx
        else "the student holds no ONNX model"
    )
    _log.info("torch instead of ONNX Runtime: %s", reason)
    return _torch_runner(student, "cpu", precision, threads)


def gpu_present() -> bool:
    """Return whether a driver of an NVIDIA device is loaded; says nothing about torch."""
    return any((Path("/dev") / node).exists() for node in _GPU_NODES)


def _onnx_runner(
    student: StudentFile, device: Device, precision: Precision, threads: int
) -> Runner:
    from evdistill_core.inference.onnx_runner import OnnxRunner  # noqa: PLC0415 - only where chosen

    if precision not in {"auto", "fp32"}:
        raise ConfigError(
            f"ONNX Runtime runs students in fp32 only, got precision {precision}; use fp32, or "
            "runtime torch"
        )
    return OnnxRunner(student, device="cuda" if device == "cuda" else "cpu", threads=threads)


def _torch_runner(
    student: StudentFile, device: Device, precision: Precision, threads: int
) -> Runner:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "torch is not installed; install it (pip install torch) or use runtime onnxruntime on "
            "device cpu"
        )
    from evdistill_core.inference.torch_runner import TorchRunner  # noqa: PLC0415 - only where chosen

    return TorchRunner(student, device=device, precision=precision, threads=threads)


def run_sequence(runner: Runner, x: FloatArray) -> FloatArray:
    """Return the logits of the last window of a stream that begins with the first.

    Args:
        runner: is left with the state after the last window.
        x: (C, H, W) one window, or (T, C, H, W) windows in a row.
    """
    runner.reset()
    if x.ndim == 3:
        return runner.run(x)
    for window in x[:-1] if runner.is_recurrent else ():
        runner.run(window)
    return runner.run(x[-1])


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

"""Choosing what runs a student: ONNX Runtime or torch, CPU or CUDA, and the precision."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import get_args

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.inference.runner import Device, Precision, Runner, Runtime
from evdistill_core.inference.student import StudentFile

_log = logging.getLogger(__name__)
# What the drivers of NVIDIA boards, Jetsons and WSL leave in /dev. Looking there costs nothing;
# asking torch would load it, which a robot without a GPU is spared.
_GPU_NODES = ("nvidiactl", "nvidia0", "nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu", "dxg")


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
            near = did_you_mean(str(value), allowed)
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{near}")
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

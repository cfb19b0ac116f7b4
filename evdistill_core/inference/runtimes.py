"""Choosing what runs a student: ONNX Runtime or torch, CPU or CUDA, and the precision."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast, get_args

from evdistill_core.foundation.errors import ConfigError, EvdistillError
from evdistill_core.foundation.extras import install_command
from evdistill_core.foundation.plugins import Registry, in_one_line
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.inference.runner import Device, Precision, Runner
from evdistill_core.inference.student import StudentFile

_log = logging.getLogger(__name__)
# What the drivers of NVIDIA boards, Jetsons and WSL leave in /dev. Looking there costs nothing;
# asking torch would load it, which a robot without a GPU is spared.
_GPU_NODES = ("nvidiactl", "nvidia0", "nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu", "dxg")


def make_runner(
    student: StudentFile,
    *,
    runtime: str = "auto",
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
        runtime: one of ``RUNTIMES``, an entry point, or ``package.module:function``.
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
        ("device", device, get_args(Device)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in allowed:
            near = did_you_mean(str(value), allowed)
            raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}{near}")
    if not 0 <= threads <= 1024:
        raise ConfigError(f"threads must lie in 0..1024, got {threads}")
    make = RUNTIMES.get(runtime)
    return make(student, device=device, precision=precision, threads=threads)


class MakeRunner(Protocol):
    """Loads a student into one runtime."""

    def __call__(
        self, student: StudentFile, *, device: Device, precision: Precision, threads: int
    ) -> Runner:
        """Return the runner; see ``make_runner`` for arguments and errors."""
        ...


def _best_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    if device == "cuda":
        return _torch_runner(student, device=device, precision=precision, threads=threads)
    if device == "auto" and gpu_present():
        try:
            return _torch_runner(student, device="cuda", precision=precision, threads=threads)
        except (ConfigError, RuntimeError) as error:
            _log.warning("a GPU is present but not used: %s", error)
    if precision in {"auto", "fp32"} and student.has_onnx:
        return _onnx_runner(student, device="cpu", precision=precision, threads=threads)
    reason = (
        f"ONNX Runtime runs students in fp32, not {precision}"
        if student.has_onnx
        else "the student holds no ONNX model"
    )
    _log.info("torch instead of ONNX Runtime: %s", reason)
    return _torch_runner(student, device="cpu", precision=precision, threads=threads)


def gpu_present() -> bool:
    """Return whether a driver of an NVIDIA device is loaded; says nothing about torch."""
    return any((Path("/dev") / node).exists() for node in _GPU_NODES)


def _onnx_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    from evdistill_core.inference.onnx_runner import OnnxRunner  # noqa: PLC0415 - only where chosen

    if precision not in {"auto", "fp32"}:
        raise ConfigError(
            f"ONNX Runtime runs students in fp32 only, got precision {precision}; use fp32, or "
            "runtime torch"
        )
    return OnnxRunner(student, device="cuda" if device == "cuda" else "cpu", threads=threads)


def _torch_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"torch is not installed: {install_command('train')}, or use runtime onnxruntime on "
            "device cpu"
        )
    from evdistill_core.inference.torch_runner import TorchRunner  # noqa: PLC0415 - only where chosen

    return TorchRunner(student, device=device, precision=precision, threads=threads)


_RUNNER_MEMBERS = (
    "description", "size_multiple", "output_stride", "is_recurrent", "has_instances", "reset",
    "run", "run_whole", "warm_up",
)  # fmt: skip


def _guest(name: str, found: object) -> MakeRunner:
    """Return what loads students into the runtime of a plugin: its own errors in one line."""
    if not callable(found):
        raise ConfigError(
            f"runtime {name!r} is {type(found).__name__}, no function (student, device=, "
            "precision=, threads=) -> runner (docs/how-to/extending.md)"
        )

    def make(student: StudentFile, *, device: Device, precision: Precision, threads: int) -> Runner:
        try:
            runner = found(student, device=device, precision=precision, threads=threads)
        except EvdistillError:
            raise
        except Exception as error:
            raise ConfigError(
                f"runtime {name!r} cannot load {student.path}: {in_one_line(error)}"
            ) from error
        missing = [m for m in _RUNNER_MEMBERS if not hasattr(runner, m)]
        if missing:
            raise ConfigError(
                f"runtime {name!r} gives {type(runner).__name__} without {', '.join(missing)}: "
                "derive it from StudentRunner (evdistill_core.inference.runner)"
            )
        return cast("Runner", runner)

    return make


_OWN: Mapping[str, MakeRunner] = {
    "auto": _best_runner,
    "onnxruntime": _onnx_runner,
    "torch": _torch_runner,
}
RUNTIMES: Registry[MakeRunner] = Registry("runtime", "evdistill.runtimes", _OWN, _guest)

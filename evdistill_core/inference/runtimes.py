"""Choosing what runs a student: the runtime, the device and the precision."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast, get_args

from evdistill_core.foundation.errors import ConfigError, EvdistillError, StudentError
from evdistill_core.foundation.extras import install_command
from evdistill_core.foundation.plugins import Registry, in_one_line
from evdistill_core.foundation.suggestions import did_you_mean
from evdistill_core.inference.choice import fastest
from evdistill_core.inference.parity import example_input, rows_of
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

    ``auto`` takes torch with fp16 where a CUDA device works. On the CPU it measures the runtimes
    that are installed and have the precision, once for each student and machine (``choice``); a
    fallback is logged with its reason. What is asked for by name is given or refused, never
    replaced.

    Whatever computes in less than fp32, and OpenVINO and TensorRT in fp32 too, is compared with
    ONNX Runtime in fp32 when it is loaded (``parity.LIMITS``).

    Args:
        student: an opened student file.
        runtime: one of ``RUNTIMES``, an entry point, or ``package.module:function``.
        device: "auto", "cpu" or "cuda".
        precision: "auto" (fp16 on CUDA, fp32 on the CPU), "fp32", "fp16", "bf16" or "int8".
        threads: CPU threads for the network; 0: one (the other cores decode and publish), torch's
            own default for torch. For torch this is a setting of the process.

    Raises:
        ConfigError: an unknown value, or a combination that this machine or this student does not
            have; the message says what it has.
        StudentError: the student file is damaged, or computes something else in this precision.
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
    if device == "auto" and precision != "int8" and gpu_present():
        try:
            return _torch_runner(student, device="cuda", precision=precision, threads=threads)
        except (ConfigError, RuntimeError) as error:
            _log.warning("a GPU is present but not used: %s", error)
    candidates: dict[str, Callable[[], Runner]] = {}

    def offer(name: str, make: MakeRunner) -> None:
        candidates[name] = lambda: make(student, device="cpu", precision=precision, threads=threads)

    is_full = precision in {"auto", "fp32"}
    if student.has_onnx and (is_full or (precision == "int8" and student.has_int8)):
        offer("onnxruntime", _onnx_runner)
    if student.has_onnx and has_openvino() and (student.has_int8 or precision != "int8"):
        offer("openvino", _openvino_runner)
    if precision == "bf16" or not candidates:
        if precision == "int8":
            student.onnx_int8()  # says what is missing
        reason = (
            f"ONNX Runtime runs students in fp32 and int8, not {precision}"
            if student.has_onnx
            else "the student holds no ONNX model"
        )
        _log.info("torch instead of ONNX Runtime: %s", reason)
        offer("torch", _torch_runner)
    return fastest(student, candidates, precision=precision, threads=threads)


def has_openvino() -> bool:
    """Return whether OpenVINO is installed; does not load it."""
    return importlib.util.find_spec("openvino") is not None


def gpu_present() -> bool:
    """Return whether a driver of an NVIDIA device is loaded; says nothing about torch."""
    return any((Path("/dev") / node).exists() for node in _GPU_NODES)


def _onnx_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    from evdistill_core.inference.onnx_runner import OnnxRunner  # noqa: PLC0415 - only where chosen

    provider = "cuda" if device == "cuda" else "cpu"
    runner = OnnxRunner(student, provider=provider, precision=precision, threads=threads)
    return runner if runner.precision == "fp32" else _checked(student, runner, runner.precision)


def _openvino_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    if device == "cuda":
        raise ConfigError("runtime openvino computes on the cpu, got device cuda; use device cpu")
    if has_openvino():
        from evdistill_core.inference.openvino_runner import OpenVinoRunner  # noqa: PLC0415

        own = OpenVinoRunner(student, precision=precision, threads=threads)
        return _checked(student, own, own.precision)
    from evdistill_core.inference.onnx_runner import OnnxRunner, has_provider  # noqa: PLC0415

    if not has_provider("openvino"):
        raise ConfigError(
            f"OpenVINO is not installed: {install_command('openvino')}, or use runtime onnxruntime"
        )
    runner = OnnxRunner(student, provider="openvino", precision=precision, threads=threads)
    return _checked(student, runner, runner.precision)


def _tensorrt_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    from evdistill_core.inference.onnx_runner import OnnxRunner  # noqa: PLC0415 - only where chosen

    if device == "cpu":
        raise ConfigError("runtime tensorrt computes on a GPU, got device cpu; use device cuda")
    runner = OnnxRunner(student, provider="tensorrt", precision=precision, threads=threads)
    return _checked(student, runner, runner.precision)


def _torch_runner(
    student: StudentFile, *, device: Device, precision: Precision, threads: int
) -> Runner:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(
            f"torch is not installed: {install_command('train')}, or use runtime onnxruntime on "
            "device cpu"
        )
    from evdistill_core.inference.torch_runner import TorchRunner  # noqa: PLC0415 - only where chosen

    runner = TorchRunner(student, device=device, precision=precision, threads=threads)
    return runner if runner.precision == "fp32" else _checked(student, runner, runner.precision)


def _checked(student: StudentFile, runner: Runner, precision: str) -> Runner:
    """Return a runner that computes what the student computes in fp32, within its limit.

    Raises:
        StudentError: it does not.
    """
    if not student.has_onnx:
        return runner  # nothing here to compare with that would not be torch as well
    from evdistill_core.inference.onnx_runner import OnnxRunner  # noqa: PLC0415 - only where chosen

    x = example_input(student.input)
    given, right = runner.run_whole(x), OnnxRunner(student).run_whole(x)
    runner.reset()
    rows = rows_of(
        runner.description, precision, [(given, right)],
        size=x.shape[1:], thing_ids=student.classes.thing_ids,
    )  # fmt: skip
    for row in rows:
        if not row.is_equal:
            raise StudentError(
                f"{student.path} on {row.form} differs from fp32 at {row.difference}; "
                "use precision fp32"
            )
    _log.info(
        "%s: same class as fp32 in %.2f %% of the cells of a made-up window, largest difference "
        "%.3g of %.3g", runner.description, 100 * rows[0].argmax_agreement,
        rows[0].max_abs_difference, rows[0].max_abs_logit,
    )  # fmt: skip
    return runner


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
    "openvino": _openvino_runner,
    "tensorrt": _tensorrt_runner,
    "torch": _torch_runner,
}
RUNTIMES: Registry[MakeRunner] = Registry("runtime", "evdistill.runtimes", _OWN, _guest)

import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference import runtimes as runtimes_module
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile, write_student
from evdistill_core.inference.torch_runner import load_network

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
RUNTIMES = ("onnxruntime", "torch", *(["openvino"] if HAS_OPENVINO else []))


@pytest.fixture(scope="module")
def student(student_path):
    return StudentFile.open(student_path)


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without a GPU and without OpenVINO, also where they are."""
    monkeypatch.setattr(runtimes_module, "gpu_present", lambda: False)
    monkeypatch.setattr(runtimes_module, "has_openvino", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def window(height=40, width=72, channels=3, seed=0):
    x = np.random.default_rng(seed).normal(0, 1, (channels, height, width)).astype(np.float32)
    x.setflags(write=False)
    return x


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 72), (264, 352)])
def test_logits_are_those_of_the_trained_network(student, runtime, height, width):
    runner = make_runner(student, runtime=runtime, device="cpu")
    x = window(height, width)
    logits = runner.run(x)
    with torch.no_grad():
        trained = load_network(student)(torch.from_numpy(x.copy())[None])[0].numpy()
    assert logits.shape == (6, height // 4, width // 4)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, trained, atol=1e-4)
    assert trained.std() > 0.1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_logits_belong_to_the_caller(student, runtime):
    runner = make_runner(student, runtime=runtime, device="cpu")
    first = runner.run(window(seed=1))
    copy = first.copy()
    second = runner.run(window(seed=2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, copy)
    first[:] = 0  # writable
    np.testing.assert_array_equal(runner.run(window(seed=1)), copy)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_views_are_taken_as_they_look(student, runtime):
    runner = make_runner(student, runtime=runtime, device="cpu")
    wide = window(40, 144)
    np.testing.assert_array_equal(
        runner.run(wide[:, :, ::2]), runner.run(np.ascontiguousarray(wide[:, :, ::2]))
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((5, 40, 72), np.float32), r"must be \(3, H, W\) float32, got \(5, 40, 72\)"),
        (np.zeros((1, 3, 40, 72), np.float32), "got"),
        (np.zeros((3, 40, 72)), "float64"),
        (np.zeros((3, 41, 72), np.float32), "multiples of 8, got 41x72; InputSpec.grid"),
        (np.zeros((3, 0, 72), np.float32), "multiples of 8, got 0x72"),
    ],
)
def test_wrong_input(student, runtime, x, message):
    runner = make_runner(student, runtime=runtime, device="cpu")
    with pytest.raises(ValueError, match=message):
        runner.run(x)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_warm_up_and_properties(student, runtime):
    runner = make_runner(student, runtime=runtime, device="cpu", threads=1)
    runner.warm_up(48, 64)
    assert (runner.size_multiple, runner.output_stride) == (8, 4)
    assert "onboard-seg" in runner.description
    assert "cpu fp32, 1 thread" in runner.description


def test_auto_without_a_gpu_is_onnx_runtime(student, no_gpu):
    assert "ONNX Runtime" in make_runner(student).description
    assert "ONNX Runtime" in make_runner(student, device="cpu", precision="fp32").description


def test_auto_says_why_it_falls_back(student, tmp_path, no_gpu, caplog):
    write_student(tmp_path / "s", student.info, weights=student.weights())
    with caplog.at_level(logging.INFO, "evdistill_core"):
        small = make_runner(StudentFile.open(tmp_path / "s"))
    assert "torch" in small.description
    assert "the student holds no ONNX model" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "evdistill_core"):
        runner = make_runner(student, precision="bf16")
    assert "cpu bf16" in runner.description
    assert "fp32 and int8, not bf16" in caplog.text


def test_auto_survives_a_gpu_that_torch_cannot_use(student, monkeypatch, caplog):
    monkeypatch.setattr(runtimes_module, "gpu_present", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING, "evdistill_core"):
        runner = make_runner(student)
    assert "ONNX Runtime" in runner.description
    assert "a GPU is present but not used" in caplog.text


def test_bf16_on_the_cpu_is_close(student):
    x = window()
    exact = make_runner(student, runtime="torch", device="cpu").run(x)
    rough = make_runner(student, runtime="torch", device="cpu", precision="bf16").run(x)
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"runtime": "tensorflow"},
            "unknown runtime .tensorflow.; known: auto, onnxruntime, openvino, tensorrt, torch",
        ),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda"),
        ({"precision": "int4"}, "precision must be one of auto, fp32, fp16, bf16, int8"),
        ({"precision": "int8", "runtime": "torch"}, "torch runs students in fp32, bf16 and fp16"),
        ({"runtime": "openvino"}, r"OpenVINO is not installed: pip install .*\[openvino\]"),
        ({"runtime": "openvino", "device": "cuda"}, "computes on the cpu, got device cuda"),
        ({"runtime": "tensorrt", "device": "cpu"}, "computes on a GPU, got device cpu"),
        ({"threads": -1}, "threads must lie in 0..1024"),
        ({"device": "cuda"}, "device cuda is not available: .*; available: cpu"),
        ({"device": "cuda", "runtime": "torch"}, "device cuda is not available"),
        (
            {"precision": "fp16", "device": "cpu"},
            "fp16 is not available on the cpu; available: fp32",
        ),
        ({"precision": "bf16", "runtime": "onnxruntime"}, "in fp32, int8, got precision bf16"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(student, no_gpu, wanted, message):
    with pytest.raises(ConfigError, match=message):
        make_runner(student, **wanted)


def test_onnx_runtime_without_cuda(student):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(
        ConfigError, match=r"no cuda support, only .*CPUExecutionProvider.*onnxruntime-gpu"
    ):
        make_runner(student, runtime="onnxruntime", device="cuda")


def replace_onnx(student, path, model):
    write_student(path, student.info, weights=student.weights(), onnx=model)
    return StudentFile.open(path)


@pytest.mark.parametrize("model", [b"hello", b"\x08\x08", bytes(100)])
def test_onnx_that_cannot_be_loaded(student, tmp_path, model):
    broken = replace_onnx(student, tmp_path / "s", model)
    with pytest.raises(StudentError, match="cannot load the model"):
        make_runner(broken, runtime="onnxruntime")


def test_onnx_of_another_network(student, tmp_path):
    from onnx import TensorProto, helper

    value = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 7, 8, 8)) for n in ("input", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["input"], ["y"])], "g", value[:1], value[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    other = replace_onnx(student, tmp_path / "s", model.SerializeToString())
    with pytest.raises(StudentError, match="its description says 3 channels to 6 classes"):
        make_runner(other, runtime="onnxruntime")


def test_onnx_that_reads_other_files(student, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    tensor = helper.make_tensor("w", TensorProto.FLOAT, (4,), bytes(16), raw=True)
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 8, 8))
    graph = helper.make_graph([], "g", [value], [value], [tensor])
    other = replace_onnx(student, tmp_path / "s", helper.make_model(graph).SerializeToString())
    with pytest.raises(StudentError, match="refers to other files"):
        make_runner(other, runtime="onnxruntime")


def test_weights_of_another_network(student, tmp_path):
    weights = student.weights()
    weights["head.bias"] = np.zeros(7, np.float32)
    write_student(tmp_path / "s", student.info, weights=weights)
    with pytest.raises(StudentError, match=r"1 misshapen: head.bias is \(7,\), not \(6,\)"):
        make_runner(StudentFile.open(tmp_path / "s"), runtime="torch", device="cpu")


def test_options_of_another_version(student_path, tmp_path):
    """Options that the network does not know are named, whichever runtime meets them."""
    with zipfile.ZipFile(student_path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["student.json"])
    manifest["network"]["options"]["depth"] = 3
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        for name, data in {**members, "student.json": json.dumps(manifest)}.items():
            archive.writestr(name, data)
    with pytest.raises(ConfigError, match=r"unknown key network options.depth"):
        make_runner(StudentFile.open(tmp_path / "s"), runtime="torch", device="cpu")


def test_the_robot_path_does_not_load_torch(student_path):
    """Open, load, run on ONNX Runtime in a fresh interpreter in which torch cannot be imported."""
    code = f"""
import sys
sys.modules["torch"] = None  # any import of it raises ImportError
import numpy as np
from evdistill_core.inference.student import StudentFile
from evdistill_core.inference.runtimes import make_runner
import evdistill_core.inference.runner as r
r.gpu_present = lambda: False
student = StudentFile.open({str(student_path)!r})
runner = make_runner(student)
print(runner.run(np.ones((3, 40, 72), np.float32)).sum(), runner.description)
try:
    make_runner(student, runtime="torch")
except ValueError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    total, _, description = result.stdout.splitlines()[0].partition(" ")
    expected = make_runner(StudentFile.open(student_path), runtime="onnxruntime").run(
        np.ones((3, 40, 72), np.float32)
    )
    assert float(total) == pytest.approx(float(expected.sum()), abs=1e-2)
    assert "ONNX Runtime" in description
    assert "torch is not installed" in result.stdout


def test_gpu_present_reads_devices_only(monkeypatch, tmp_path):
    monkeypatch.setattr(runtimes_module, "Path", lambda _path: tmp_path)
    assert not runtimes_module.gpu_present()
    (tmp_path / "nvidiactl").touch()
    assert runtimes_module.gpu_present()


def test_file_is_not_needed_after_loading(student_path, tmp_path):
    copy = tmp_path / "copy.evstudent"
    copy.write_bytes(student_path.read_bytes())
    runner = make_runner(StudentFile.open(copy), runtime="onnxruntime")
    digest = hashlib.sha256(runner.run(window()).tobytes()).hexdigest()
    Path(copy).unlink()
    assert hashlib.sha256(runner.run(window()).tobytes()).hexdigest() == digest


@pytest.mark.gpu
class TestCuda:
    """Run for real where a CUDA device is; skipped elsewhere."""

    @pytest.fixture(autouse=True)
    def _cuda(self):
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")

    def test_auto_takes_it_in_half_precision(self, student):
        runner = make_runner(student)
        assert torch.cuda.get_device_name() in runner.description
        assert runner.description.endswith("fp16")

    @pytest.mark.parametrize(
        ("precision", "tolerance"), [("fp32", 5e-3), ("fp16", 2e-2), ("bf16", 1e-1)]
    )
    @pytest.mark.parametrize(("height", "width"), [(264, 352), (40, 72), (480, 640)])
    def test_logits_are_those_of_the_cpu(self, student, precision, tolerance, height, width):
        x = window(height, width)
        truth = make_runner(student, runtime="torch", device="cpu").run(x)
        runner = make_runner(student, device="cuda", precision=precision)
        runner.warm_up(height, width)
        logits = runner.run(x)
        assert logits.dtype == np.float32
        assert logits.shape == truth.shape
        # fp32 may run on tensor cores with shorter mantissas (TF32), hence not 1e-5.
        assert np.abs(logits - truth).max() <= tolerance * np.abs(truth).max()
        assert (logits.argmax(0) == truth.argmax(0)).mean() > 0.97
        np.testing.assert_array_equal(runner.run(x), logits)

    def test_logits_are_finite_on_a_loud_window(self, student):
        logits = make_runner(student, device="cuda").run(window() * 100)
        assert np.isfinite(logits).all()

    def test_explicit_cpu_stays_on_the_cpu(self, student):
        assert "cpu" in make_runner(student, device="cpu").description
        assert "cpu" in make_runner(student, runtime="torch", device="cpu").description
